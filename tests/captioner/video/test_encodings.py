"""Files as programs write them: what is read is compared with the pictures that went in."""

import io
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from captioner.config import SamplingOptions
from captioner.errors import VideoError
from captioner.video import read_frames, read_frames_at, read_steadily, stream_frames

ROOT = Path(__file__).parents[3]
NUM_FRAMES, HEIGHT, WIDTH, FPS = 12, 48, 64, 25
SAMPLING = SamplingOptions(NUM_FRAMES)
INTERLACED = {"flags": "+ilme+ildct", "x264-params": "tff=1"}
QUIET = {"x265-params": "log-level=none"}

# Suffix, encoder, pixel format, options, how far a pixel may be off in the mean.
ENCODINGS = {
    f"{suffix} {codec} {pix_fmt}{' ' if about else ''}{about}": (
        suffix,
        codec,
        pix_fmt,
        options,
        off,
    )
    for suffix, codec, pix_fmt, about, options, off in [
        ("mp4", "libx264", "yuv420p", "", {}, 8),
        ("mp4", "libx264", "yuv420p", "interlaced", INTERLACED, 8),
        ("mp4", "libx264", "yuv420p", "b-frames", {"bf": "4"}, 8),
        ("mp4", "libx264", "yuv420p", "fragmented", {"movflags": "frag_keyframe+empty_moov"}, 8),
        ("mp4", "libx264", "yuv422p", "", {}, 8),
        ("mp4", "libx264", "yuv444p", "", {}, 8),
        ("mp4", "libx264", "yuv420p10le", "", {}, 8),
        ("mp4", "libx264", "yuvj420p", "", {}, 8),
        ("mp4", "libx264rgb", "rgb24", "", {}, 8),
        ("mkv", "libx264", "yuv420p", "", {}, 8),
        ("mkv", "libx264", "gray", "", {}, 60),
        ("ts", "libx264", "yuv420p", "", {}, 8),
        ("ts", "libx264", "yuv420p", "interlaced", INTERLACED, 8),
        ("mts", "libx264", "yuv420p", "interlaced", INTERLACED, 8),
        ("flv", "libx264", "yuv420p", "", {}, 8),
        ("avi", "libx264", "yuv420p", "", {"bf": "0"}, 8),
        ("avi", "libx264", "yuv420p", "b-frames", {"bf": "4"}, 8),
        ("mxf", "libx264", "yuv420p", "", {}, 8),
        ("h264", "libx264", "yuv420p", "", {}, 8),
        ("mp4", "libx265", "yuv420p", "", QUIET, 8),
        ("mkv", "libx265", "yuv420p10le", "", QUIET, 8),
        ("ts", "libx265", "yuv420p", "", QUIET, 8),
        ("mp4", "libsvtav1", "yuv420p", "", {"preset": "10"}, 12),
        ("webm", "libsvtav1", "yuv420p10le", "", {"preset": "10"}, 12),
        ("webm", "libvpx", "yuv420p", "", {}, 12),
        ("webm", "libvpx", "yuv420p", "hidden", {"auto-alt-ref": "1", "lag-in-frames": "8"}, 12),
        ("webm", "libvpx-vp9", "yuv420p", "", {}, 12),
        ("mp4", "libvpx-vp9", "yuv444p", "", {}, 12),
        ("mpg", "mpeg1video", "yuv420p", "", {}, 12),
        ("mpg", "mpeg2video", "yuv420p", "", {}, 12),
        ("vob", "mpeg2video", "yuv420p", "interlaced", {"flags": "+ilme+ildct"}, 12),
        ("ts", "mpeg2video", "yuv420p", "interlaced", {"flags": "+ilme+ildct"}, 12),
        ("mxf", "mpeg2video", "yuv422p", "", {}, 12),
        ("avi", "mpeg4", "yuv420p", "", {}, 12),
        ("mp4", "mpeg4", "yuv420p", "", {}, 12),
        ("avi", "mjpeg", "yuvj422p", "", {}, 12),
        ("mov", "mjpeg", "yuvj420p", "", {}, 12),
        ("mov", "prores_ks", "yuv422p10le", "", {}, 8),
        ("mov", "prores_ks", "yuva444p10le", "", {}, 8),
        ("mov", "qtrle", "rgb24", "", {}, 4),
        ("mov", "png", "rgba", "", {}, 4),
        ("mov", "tiff", "rgb24", "", {}, 4),
        ("nut", "ffv1", "yuv420p", "", {}, 6),
        ("mkv", "ffv1", "yuv420p", "", {}, 6),
        ("mkv", "ffv1", "yuv422p16le", "", {}, 6),
        ("avi", "ffv1", "bgr0", "", {}, 6),
        ("avi", "huffyuv", "yuv422p", "", {}, 6),
        ("avi", "utvideo", "gbrp", "", {}, 4),
        ("avi", "rawvideo", "yuv420p", "", {}, 6),
        ("y4m", "wrapped_avframe", "yuv420p", "", {}, 6),
        ("wmv", "wmv2", "yuv420p", "", {}, 12),
        ("asf", "msmpeg4", "yuv420p", "", {}, 12),
        ("flv", "flv", "yuv420p", "", {}, 12),
        ("rm", "rv10", "yuv420p", "", {}, 12),
        ("gif", "gif", "rgb8", "", {}, 40),
        ("apng", "apng", "rgb24", "", {}, 4),
    ]
}


def picture(number, height=HEIGHT, width=WIDTH):
    """A ramp of colours, and a bar that moves with the number."""
    down, across = np.mgrid[:height, :width]
    colours = [across * 200 // width, down * 200 // height, np.full_like(across, 120)]
    pixels = np.stack(colours, -1).astype(np.uint8)
    pixels[:, 4 * number + 4 : 4 * number + 10] = 250
    return pixels


def write(
    path, codec, pix_fmt="yuv420p", options=(), pts=None, count=NUM_FRAMES, size=(HEIGHT, WIDTH)
):
    options = dict(options)
    container_options = {"movflags": options.pop("movflags")} if "movflags" in options else {}
    with av.open(str(path), "w", options=container_options) as out:
        stream = out.add_stream(codec, FPS)
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        stream.options = options
        stream.codec_context.gop_size = 8
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number % NUM_FRAMES, *size), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            if pts is not None:
                frame.pts, frame.time_base = pts(number), Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def off_by(frames, numbers=range(NUM_FRAMES)):
    """How far pixels are off, in the mean, in the worst of the frames."""
    assert len(frames) == len(numbers)
    expected = [picture(number).astype(float) for number in numbers]
    return max(np.abs(frame - other).mean() for frame, other in zip(frames, expected))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_went_in_comes_out(encoding, tmp_path):
    suffix, codec, pix_fmt, options, tolerance = ENCODINGS[encoding]
    path = write(tmp_path / f"a.{suffix}", codec, pix_fmt, options)
    clip = read_frames(path, SAMPLING)
    assert off_by(clip.frames) <= tolerance
    np.testing.assert_allclose(clip.times, np.arange(NUM_FRAMES) / FPS, atol=0.021)
    steadily = [sample.frame for sample in read_steadily(path, 1 / FPS)]
    assert off_by(steadily, range(len(steadily))) <= tolerance
    assert len(steadily) >= NUM_FRAMES - 1
    streamed = [frame for _, frame in stream_frames(path, FPS / 2)]
    assert abs(len(streamed) - NUM_FRAMES / 2) <= 1
    assert min(frame.mean() for frame in streamed) > 60


def test_a_folder_of_all_encodings_gives_a_row_each(tmp_path):
    """The real command; the model, which says how bright a clip is, stands in for one."""
    for encoding, (suffix, *how, _) in ENCODINGS.items():
        write(tmp_path / f"{encoding.replace(' ', '-')}.{suffix}", *how)
    command = [sys.executable, "-m", "tests.fake", "caption", tmp_path, "--format", "text"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    brightness = [int(line.split()[-1].rstrip(".")) for line in done.stdout.splitlines()]
    assert len(brightness) == len(ENCODINGS)
    assert min(brightness) > 80


def _encoders():
    for name in sorted(av.codecs_available):
        try:
            codec = av.codec.Codec(name, "w")
        except av.codec.codec.UnknownCodecError:
            continue
        if codec.type == "video" and not name.endswith(("_amf", "_nvenc", "_qsv", "_v4l2m2m")):
            yield name


# Those of one size, or of even ones that are powers of two; and those of black and white alone,
# or whose encoder makes nothing that a decoder here reads.
SIZES = {"dvvideo": (720, 576), "h261": (176, 144), "h263": (176, 144), "dxv": (64, 64)}
SIZES |= {"dnxhd": (256, 128)}
ODD = {"a64multi", "a64multi5", "pbm", "wbmp", "xbm", "xface", "vnull"}
ODD |= {"alias_pix", "fits", "flashsv2", "pam", "pfm", "phm", "vbn", "msrle", "smc", "roqvideo"}


@pytest.mark.parametrize("name", sorted(set(_encoders()) - ODD))
def test_every_encoder_there_is(name, tmp_path):
    colours = [form.name for form in av.codec.Codec(name, "w").video_formats or []]
    colours = [form for form in colours if not form.startswith(("gray", "mono", "pal", "ya"))]
    width, height = SIZES.get(name, (WIDTH, HEIGHT))
    options = {"strict": "-2"} | (QUIET if name in ("hevc", "libx265") else {})
    options |= {"profile": "dnxhr_sq"} if name == "dnxhd" else {}
    for suffix in ("mov", "avi", "mkv", "rm"):
        path = tmp_path / f"a.{suffix}"
        try:
            write(path, name, (colours or ["yuv420p"])[0], options, size=(height, width))
            with av.open(str(path)) as container:
                decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        except (av.FFmpegError, ValueError, IndexError):
            continue
        if decoded:
            break
    else:
        pytest.skip("no file of it can be decoded here")
    steadily = [sample.frame for sample in read_steadily(path, 1 / FPS)]
    for frames in (read_frames(path, SAMPLING).frames, steadily):
        assert len(frames) >= len(decoded) - 1
        for number, (frame, other) in enumerate(zip(frames, decoded)):
            np.testing.assert_array_equal(frame, other)
            assert np.abs(frame - picture(number, height, width).astype(float)).mean() < 21


def test_pauses_and_clocks_that_jump(tmp_path):
    def times_of(name, pts):
        path = tmp_path / f"{name}.mkv"
        return read_frames(write(path, "libx264", options={"bf": "0"}, pts=pts), SamplingOptions(6))

    pause = times_of("pause", lambda n: n + (n >= 6) * FPS * 80)
    assert pause.duration == pytest.approx(80.48, abs=0.05)
    assert (pause.times < 1).sum() == 3
    jump = times_of("jump", lambda n: n + (n >= 1) * FPS * 86_400)
    assert jump.duration == pytest.approx(0.48, abs=0.05)
    assert np.ptp(np.diff(jump.times)) < 0.05
    epoch = tmp_path / "jump.mkv"
    assert len(list(stream_frames(epoch, 5))) <= 4


def test_parts_that_were_put_together(tmp_path):
    part = write(tmp_path / "part.ts", "libx264", count=2 * FPS)
    whole = tmp_path / "whole.ts"
    whole.write_bytes(part.read_bytes() * 2)
    clip = read_frames(whole, SamplingOptions(4))
    assert clip.duration == pytest.approx(4, abs=0.2)
    np.testing.assert_allclose(clip.times, [0.5, 1.5, 2.5, 3.5], atol=0.1)


def test_frames_of_the_same_time_are_all_there(tmp_path):
    path = write(tmp_path / "a.asf", "mpeg2video")  # whose last two frames have one time
    assert off_by(read_frames(path, SAMPLING).frames) < 12
    twice = write(tmp_path / "a.mkv", "ffv1", pts=lambda number: number - (number == 6))
    assert off_by(read_frames(twice, SAMPLING).frames) < 8
    assert (np.diff(read_frames(twice, SAMPLING).times) > 0).all()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", ["mov", "avi"])
def test_jpegs_in_a_video_that_say_how_they_are_turned(suffix, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    with av.open(str(tmp_path / f"a.{suffix}"), "w") as out:
        stream = out.add_stream("mjpeg", FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for number in range(NUM_FRAMES):
            data = io.BytesIO()
            Image.fromarray(picture(number)).save(data, "JPEG", exif=exif, quality=95)
            packet = av.Packet(data.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, FPS), stream
            packet.is_keyframe = True
            out.mux(packet)
    frame = read_frames(tmp_path / f"a.{suffix}", SAMPLING).frames[6]
    shown = np.rot90(picture(6), {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    assert np.abs(frame - shown.astype(float)).mean() < 12


def test_jpegs_as_a_camera_sends_them_over_the_web(tmp_path):
    path, parts = tmp_path / "a.mjpeg", []
    for number in range(NUM_FRAMES):
        data = io.BytesIO()
        Image.fromarray(picture(number)).save(data, "JPEG", quality=95)
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {data.tell()}\r\n\r\n"
        parts.append(head.encode() + data.getvalue() + b"\r\n")
    path.write_bytes(b"".join(parts))
    assert off_by(read_frames(path, SAMPLING).frames) < 12


@pytest.mark.parametrize("suffix", ["webp", "gif", "png", "avif"])
def test_animations(suffix, tmp_path):
    images = [Image.fromarray(picture(number)) for number in range(NUM_FRAMES)]
    path = tmp_path / f"a.{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=40)
    clip = read_frames(path, SAMPLING)
    assert off_by(clip.frames) < 20
    np.testing.assert_allclose(clip.times, np.arange(NUM_FRAMES) / FPS, atol=0.001)
    assert clip.duration == pytest.approx(NUM_FRAMES / FPS)
    assert off_by([sample.frame for sample in read_steadily(path, 1 / FPS)]) < 20
    assert off_by([frame for _, frame in stream_frames(path, FPS)]) < 20
    assert off_by(read_frames_at(path, [0.2, 0.4]), [5, 10]) < 20


def test_half_an_animation_is_told(tmp_path):
    path = tmp_path / "a.webp"
    images = [Image.fromarray(picture(number)) for number in range(NUM_FRAMES)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=40)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(VideoError, match=r"a\.webp: .*not all there"):
        read_frames(path, SAMPLING)


@pytest.mark.parametrize("suffix", ["webp", "gif", "png"])
def test_what_is_transparent_in_an_animation_is_white(suffix, tmp_path):
    images = [Image.new("RGBA", (8, 8), (0, 0, 0, 0)) for _ in range(3)]
    for number, image in enumerate(images):
        image.putpixel((number, 0), (255, 0, 0, 255))
    path = tmp_path / f"a.{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=40, disposal=2)
    for frame in read_frames(path, SamplingOptions(3)).frames:
        assert frame[4:].min() > 250


# How each matrix makes luma, and which number it has.
LUMA = {"BT.709": (1, (0.2126, 0.7152, 0.0722)), "BT.601": (6, (0.299, 0.587, 0.114))}
LUMA |= {"BT.2020": (9, (0.2627, 0.678, 0.0593)), "BT.2020 constant": (10, (0.2627, 0.678, 0.0593))}


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [*LUMA, "YCgCo"])
def test_colours_by_every_matrix_and_range(matrix, full, tmp_path):
    red, green, blue = np.moveaxis(picture(3).astype(float), -1, 0)
    if matrix == "YCgCo":
        number, luma = 8, red / 4 + green / 2 + blue / 4
        chroma = [-red / 4 + green / 2 - blue / 4, red / 2 - blue / 2]
    else:
        number, (kr, kg, kb) = LUMA[matrix]
        luma = kr * red + kg * green + kb * blue
        chroma = [(blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)]
    if not full:
        luma, chroma = 16 + luma * 219 / 255, [plane * 224 / 255 for plane in chroma]
    planes = np.stack([luma, *(128 + plane for plane in chroma)]).round().clip(0, 255)
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        stream.options = {"qp": "4"}
        stream.codec_context.colorspace, stream.codec_context.color_range = number, 1 + full
        frame = av.VideoFrame.from_ndarray(planes.astype(np.uint8), format="yuv444p")
        frame.colorspace, frame.color_range = number, 1 + full
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    [frame] = read_frames(tmp_path / "a.mp4", SamplingOptions(1)).frames
    assert np.abs(frame - picture(3).astype(float)).mean() < (25 if "constant" in matrix else 3)


def _streams(path, *streams):
    """Writes streams of one brightness each: (brightness, size, default, a cover)."""
    with av.open(str(path), "w") as out:
        made = []
        for brightness, (height, width), default, cover in streams:
            stream = out.add_stream("mjpeg" if cover else "libx264", FPS)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if cover else "yuv420p"
            kinds = Disposition.default * default, Disposition.attached_pic * cover
            stream.disposition = Disposition(sum(map(int, kinds)))
            made.append((stream, brightness, 1 if cover else NUM_FRAMES))
        for stream, brightness, count in made:
            frame = np.full((stream.height, stream.width, 3), brightness, np.uint8)
            for _ in range(count):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            out.mux(stream.encode(None))
    return path


SMALL, LARGE = (48, 64), (96, 128)


@pytest.mark.parametrize(
    ("suffix", "streams"),
    [
        ("mp4", [(40, LARGE, False, True), (200, SMALL, True, False)]),
        ("mkv", [(200, SMALL, True, False), (40, LARGE, False, False)]),
        ("mkv", [(40, LARGE, False, False), (200, SMALL, True, False)]),
        ("mkv", [(40, SMALL, False, False), (200, LARGE, False, False)]),
        ("ts", [(40, SMALL, False, False), (200, LARGE, False, False)]),
    ],
    ids=[
        "cover first",
        "default first",
        "default second",
        "larger second",
        "larger in a recording",
    ],
)
def test_the_stream_that_players_show(suffix, streams, tmp_path):
    clip = read_frames(_streams(tmp_path / f"a.{suffix}", *streams), SamplingOptions(4))
    assert len(clip.frames) == 4
    assert abs(clip.frames.mean() - 200) < 8


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "1", "P", "CMYK", "I;16"])
def test_pictures_in_all_modes(mode, tmp_path):
    grey = Image.fromarray(picture(3)).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = Image.fromarray(picture(3)).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    [frame] = read_frames(path, SamplingOptions(1)).frames
    expected = (grey if mode == "I;16" else image).convert("RGB")
    assert np.abs(frame - np.asarray(expected).astype(float)).mean() < 6


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_grey_of_fewer_bits_than_it_is_kept_in(bits, tmp_path):
    grey = np.asarray(Image.fromarray(picture(3)).convert("L")).astype(np.uint16)
    Image.fromarray((grey * ((1 << bits) - 1.0) / 255).astype(np.uint16)).save(tmp_path / "a.tif")
    [frame] = read_frames(tmp_path / "a.tif", 1).frames
    assert np.abs(frame - grey[..., np.newaxis].astype(float)).max() <= 1


def test_transparent_is_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert read_frames(tmp_path / "a.png", SamplingOptions(1)).frames.min() == 255


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_in_all_orientations(suffix, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture(3)
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", exif=exif)
    [frame] = read_frames(tmp_path / f"a.{suffix}", SamplingOptions(1)).frames
    shown = stored.swapaxes(0, 1) if orientation > 4 else stored
    if orientation in (3, 4, 7, 8):
        shown = shown[::-1]
    if orientation in (2, 3, 6, 7):
        shown = shown[:, ::-1]
    assert np.abs(frame - shown.astype(float)).mean() < 14


def test_half_a_picture_is_told(tmp_path):
    Image.fromarray(np.tile(picture(3), (8, 8, 1))).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match=r"a\.jpg.*not all there"):
        read_frames(tmp_path / "a.jpg", SamplingOptions(1))


@pytest.mark.parametrize("across", [1, -1])
@pytest.mark.parametrize("down", [1, -1])
@pytest.mark.parametrize("aside", [False, True])
def test_turned_and_mirrored_videos(across, down, aside, tmp_path):
    path = write(tmp_path / "a.mp4", "libx264")
    one = 1 << 16
    a, b, c, d = (0, down, across, 0) if aside else (across, 0, 0, down)
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    plain = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    data = path.read_bytes()
    place = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(data[:place] + matrix + data[place + 36 :])
    shown = picture(6).swapaxes(0, 1) if aside else picture(6)
    frame = read_frames(path, SAMPLING).frames[6]
    assert np.abs(frame - shown[::down, ::across].astype(float)).mean() < 8


def test_name_that_is_no_utf_8(tmp_path):
    path = write(tmp_path / "a.mp4", "libx264").rename(tmp_path / "caf\udce9.mp4")
    assert off_by(read_frames(path, SAMPLING).frames) < 8


def test_sound_only(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("aac", 44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(VideoError, match="sound only"):
        read_frames(tmp_path / "a.mp4", SamplingOptions(1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\3\4" + bytes(99), "archive .ZIP.; unpack"),
        (b"%PDF-1.7 and pages", "PDF"),
        (bytes(9999), "nothing but zeros"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X        ", "macOS"),
        (b"<!DOCTYPE html><title>Sign in</title>", "this is text"),
    ],
)
def test_what_is_no_video_is_called_what_it_is(content, message, tmp_path):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=rf"a\.mp4: .*{message}"):
        read_frames(tmp_path / "a.mp4", 1)
