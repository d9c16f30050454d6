import { begin as correctWithKeys, isSeries, next } from './correct.js';
import { ask, attempt, listen, refresh, root } from './server.js';
import { arrange, reopen, tick } from './stretches.js';
import { tagging } from './tags.js';

const page = document.getElementById('video');
const { video } = page.dataset;
const path = `/api/v1/videos/${video}`;
const find = (selector) => page.querySelector(selector);
const player = find('#player'); // stays as it is, whatever is swapped around it

// What is swapped: every part but one in which somebody writes; that one waits until it is left.

const isHeld = (part) => {
  if (part.querySelector('#editor:not([hidden]), #adding:not([hidden]), #asked[open], .border input:active')) return true;
  const inputs = [...part.querySelectorAll('.bare, #new-tag')];
  return inputs.some((input) => input === document.activeElement || input.value !== input.defaultValue);
};
let held = false;
let saving = null; // what was typed into a stretch
let isDeleting = false; // from then on there is nothing to ask for
let updating = null;

function update() {
  if (isDeleting) return null;
  if (page.dataset.state === 'uploading') { location.reload(); return null; } // there is a player now
  updating = attempt(async () => {
    const wasMissing = find('#missing');
    const { swapped, held: left } = await refresh(isHeld);
    held = left.length > 0;
    document.getElementById('news').hidden = !held;
    if (swapped.includes('sentences')) { subtitle(); reopen(); }
    if (swapped.includes('timeline')) lay();
    if (swapped.includes('considered')) begin();
    if (player && wasMissing && !find('#missing')) tryToPlay(player.src);
    if (isUnplayable) playPreview();
    if (isUnplayable) cannotPlay();
    if (screen?.hidden && !player) showCover();
  });
  return updating;
}

// The player's subtitles, as the sentences stand now.
function subtitle() {
  if (!player || !find('#sentence')) return;
  const old = player.querySelector('track');
  const mode = old?.track.mode ?? 'showing';
  old?.remove();
  const track = document.createElement('track');
  Object.assign(track, { kind: 'captions', label: 'captioner', srclang: 'en', src: `${find('#sentences').dataset.captions}?${Date.now()}` });
  player.append(track);
  track.track.mode = mode;
}

// Sentences

function edit(open) {
  if (!find('#edit')) return;
  find('#editor').hidden = !open;
  find('#sentence').hidden = open;
  find('#about').hidden = open;
  if (open) {
    find('#text').select();
  } else {
    find('#text').value = find('#text').defaultValue;
    if (isSeries) document.activeElement.blur(); // for the keys
    else find('#edit').focus();
    if (held) update();
  }
}

async function correct(text) {
  if (!await attempt(() => ask('PUT', `${path}/sentences/0`, { text }))) return;
  if (isSeries && text) { next(video); return; }
  if (!find('#editor').hidden) edit(false);
  update();
  await updating;
}

// Captions again, with what is asked of the sentences.
async function askFor() {
  const said = (name) => find(`#${name}`).value.trim();
  const words = (name) => said(name).split(/[\s,;]+/).filter(Boolean);
  const asked = { start_with: said('start-with'), mention: words('mention'), avoid: words('avoid') };
  const style = find('#style')?.value ?? 'auto';
  if (style !== 'auto') asked.style = style;
  for (const name of Object.keys(asked)) if (!asked[name].length) delete asked[name];
  if (!await attempt(() => ask('POST', `${path}/retry`, asked))) return;
  find('#asked').open = false;
  update();
}

// Of a stretch, in its place: somebody may be writing in the next one already.
async function correctStretch(input) {
  const row = input.closest('li');
  const text = input.value.trim() || null;
  if (input.value === input.defaultValue) return true;
  saving = attempt(async () => {
    const given = { text, was: Number(row.dataset.start) };
    const { sentences } = await ask('PUT', `${path}/sentences/${row.dataset.position}`, given);
    const now = sentences.find(({ position }) => position === Number(row.dataset.position));
    if ((input.value.trim() || null) === text) input.value = now.text;
    input.defaultValue = now.text;
    row.classList.toggle('corrected', now.corrected);
    subtitle();
  });
  return saving;
}

page.addEventListener('submit', (event) => {
  event.preventDefault();
  if (event.target.id === 'editor') correct(find('#text').value);
  if (event.target.id === 'asking') askFor();
});
page.addEventListener('keydown', (event) => {
  const input = event.target;
  const isEnter = event.key === 'Enter' && !event.shiftKey && !event.isComposing;
  if (input.id === 'text' && event.key === 'Escape') edit(false);
  if (input.id === 'text' && isEnter) {
    event.preventDefault();
    find('#editor').requestSubmit();
  }
  if (!input.matches('.bare')) return;
  if (event.key === 'Escape') input.value = input.defaultValue;
  if (isEnter) {
    event.preventDefault();
    const below = [...page.querySelectorAll('.bare')];
    const following = below[below.indexOf(input) + 1];
    if (following) following.focus();
    else correctStretch(input).then((done) => { if (done && isSeries) next(video); });
  }
});
page.addEventListener('focusout', async (event) => {
  if (!event.target.matches('.bare')) return;
  await correctStretch(event.target);
  if (held && !document.activeElement?.matches('.bare')) update();
});
page.addEventListener('toggle', (event) => {
  if (event.target.id === 'asked' && !event.target.open && held) update();
}, true);
page.addEventListener('change', (event) => {
  if (event.target.id === 'which') choose(event.target.value);
});

// What is clicked

const clicks = {
  '#edit': () => edit(true),
  '#keep': () => edit(false),
  '#original': () => correct(null),
  '.take': (button) => correct(button.dataset.text),
  '.seek, .frame, .segment': (button) => seek(Number(button.dataset.time)),
  '.word': hold,
  '#cancel': () => attempt(() => ask('POST', `${path}/cancel`)),
  '#retry': () => attempt(() => ask('POST', `${path}/retry`)),
  '#make-preview': () => attempt(() => ask('POST', `${path}/preview`)),
  '#label': () => attempt(() => ask('POST', `${path}/label`)),
  '#help': () => document.getElementById('keys').showModal(),
  '#delete, [data-delete]': () => document.getElementById('sure').showModal(),
};
page.addEventListener('click', (event) => {
  for (const [selector, act] of Object.entries(clicks)) {
    const target = event.target.closest(selector);
    if (target) act(target);
  }
});
document.getElementById('sure').addEventListener('close', async (event) => {
  if (event.target.returnValue !== 'yes') return;
  isDeleting = true;
  await updating;
  isDeleting = await attempt(() => ask('DELETE', path));
  if (isDeleting) location.assign(`${root}/?deleted=${video}`);
});

const screen = find('#screen');
const heat = find('#heat');
let isUnplayable = false;

function seek(time) {
  if (!player) return;
  heat.hidden = true;
  if (isUnplayable) { showFrame(time); return; }
  player.currentTime = time;
  player.play().catch(() => {}); // where it cannot play, the page says so
}

// What cannot be played is shown frame by frame.
function showFrame(time) {
  const frames = [...page.querySelectorAll('.frame')];
  const frame = frames.findLast(({ dataset }) => dataset.time <= time) || frames[0];
  find('#still').src = frame.querySelector('img').src;
}

// A preview that was made meanwhile is played in place of the frames.
function playPreview() {
  const src = find('#preview [data-src]')?.dataset.src;
  if (src && !player.src.endsWith(src)) tryToPlay(src);
}

function tryToPlay(src) {
  isUnplayable = false;
  player.src = src;
  player.hidden = false;
  screen.hidden = false;
  find('#still').hidden = true;
  find('#unplayable').hidden = true;
}

function cannotPlay() {
  isUnplayable = true;
  const frame = find('.frame');
  find('#unplayable').hidden = Boolean(find('#missing'));
  find('#instead').hidden = !frame;
  screen.hidden = !frame;
  player.hidden = true;
  find('#still').hidden = false;
  if (frame) showFrame(0);
  const offer = find('#offer');
  if (offer) offer.hidden = false;
}

// A picture of a kind that the browser does not know is shown as the model saw it, once it has.
function showCover() {
  const picture = find('#picture');
  const isCover = picture.src.includes(picture.dataset.cover);
  screen.hidden = isCover || !find('#sentence');
  find('#unplayable').hidden = !screen.hidden;
  find('#instead').hidden = true;
  if (!screen.hidden) picture.src = picture.dataset.cover;
}

// Where each word looked

let attention = [];
let pressed = null;

function choose(number) {
  page.querySelectorAll('.words').forEach((words) => {
    words.hidden = words.dataset.candidate !== String(number);
  });
  pressed?.setAttribute('aria-pressed', 'false');
  pressed = null;
  light(null);
}

function light(word) {
  const weights = word ? attention[word.closest('.words').dataset.candidate]?.[word.dataset.word] : null;
  page.querySelectorAll('.word').forEach((other) => other.classList.toggle('lit', other === word));
  const frames = [...page.querySelectorAll('.strip li')];
  const most = weights ? Math.max(1, ...weights.flat()) : 1;
  const sums = frames.map((_, n) => (weights?.[n] || []).reduce((sum, weight) => sum + weight, 0));
  const highest = Math.max(1, ...sums);
  frames.forEach((frame, n) => {
    frame.querySelectorAll('.regions i').forEach((region, place) => {
      region.style.opacity = weights ? 0.75 * (1 - Math.sqrt((weights[n]?.[place] || 0) / most)) : 0;
    });
    frame.querySelector('.level i').style.transform = `scaleX(${weights ? sums[n] / highest : 0})`;
  });
  heat.hidden = true;
  if (!weights) return;
  const looked = weights.map((regions) => regions.reduce((sum, weight) => sum + weight, 0));
  const best = looked.indexOf(Math.max(...looked));
  const at = frames[best]?.querySelector('.small').textContent;
  find('#looked-at').textContent = at
    ? `“${word.textContent}” looked most at ${at}: ${Math.round(looked[best] / 10)} % of its attention.`
    : `“${word.textContent}” looked most at what is lit.`;
  if (!player || word === pressed) warm(weights[best], JSON.parse(find('#looked').dataset.times)[best]);
}

// Lays over the picture, or over the video at that moment, where a word looked.
function warm(regions, time) {
  const grid = Number(find('#looked').dataset.grid);
  if (!grid || screen.hidden) return;
  const most = Math.max(1, ...regions);
  heat.style.gridTemplateColumns = `repeat(${grid}, 1fr)`;
  heat.replaceChildren(...regions.map((weight) => {
    const region = document.createElement('i');
    region.style.opacity = 0.65 * Math.sqrt(weight / most);
    return region;
  }));
  if (isUnplayable) showFrame(time);
  else if (player) {
    player.pause();
    player.currentTime = time;
  }
  heat.hidden = false;
  if (pressed) screen.scrollIntoView({ block: 'nearest' }); // pointed at, the word would slip away
}

function hold(word) {
  const was = pressed;
  was?.setAttribute('aria-pressed', 'false');
  pressed = was === word ? null : word;
  pressed?.setAttribute('aria-pressed', 'true');
  light(pressed);
}

for (const kind of ['mouseover', 'focusin']) {
  page.addEventListener(kind, (event) => {
    if (event.target.matches('.word')) light(event.target);
  });
}
for (const kind of ['mouseout', 'focusout']) {
  page.addEventListener(kind, (event) => {
    if (event.target.matches('.word')) light(pressed);
  });
}

// The timeline

const share = (seconds, tracks) => 100 * Math.min(1, seconds / tracks.dataset.end);

function lay() {
  const tracks = find('.tracks');
  tracks?.querySelectorAll('.track').forEach((track) => {
    track.querySelectorAll('.segment').forEach((segment, n) => {
      const [start, end] = [segment.dataset.time, segment.dataset.end].map((time) => share(time, tracks));
      segment.style.left = `${start}%`;
      segment.style.width = `${end - start}%`;
      segment.tabIndex = n ? -1 : 0; // a row of hundreds is one stop for Tab
    });
  });
  follow();
  showNow();
}

// Moves the playhead, as often as the screen is drawn while the video plays.
let nextFrame = 0;
function follow() {
  cancelAnimationFrame(nextFrame);
  const tracks = find('.tracks');
  if (!tracks || !player) return;
  find('.playhead').style.left = `${share(player.currentTime, tracks)}%`;
  if (!player.paused) nextFrame = requestAnimationFrame(follow);
}

// Marks in the legend what holds at this moment.
function showNow() {
  const now = player?.currentTime;
  const holds = [...page.querySelectorAll('.segment')].filter(({ dataset }) => dataset.time <= now && now < dataset.end);
  const colours = new Set(holds.map((segment) => segment.dataset.colour));
  page.querySelectorAll('.legend li').forEach((entry) => entry.classList.toggle('now', colours.has(entry.dataset.colour)));
}

page.addEventListener('keydown', (event) => {
  const segment = event.target.closest('.segment');
  if (!segment) return;
  const segments = [...segment.closest('.track').querySelectorAll('.segment')];
  const place = segments.indexOf(segment);
  const next = segments[{ ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: segments.length - 1 }[event.key]];
  if (!next) return;
  event.preventDefault();
  segment.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
page.addEventListener('input', (event) => {
  if (event.target.id !== 'zoom') return;
  const scroll = find('.timeline .scroll');
  find('.tracks').style.width = `${100 * event.target.value}%`;
  scroll.scrollLeft = find('.playhead').offsetLeft - scroll.clientWidth / 2;
});

// What has to be done anew when the frames and words were swapped.
function begin() {
  const looked = find('#looked');
  attention = looked ? JSON.parse(looked.dataset.attention) : [];
  pressed = null;
  page.querySelectorAll('.regions').forEach((regions) => {
    regions.style.gridTemplateColumns = `repeat(${regions.dataset.grid || 1}, 1fr)`;
  });
}

function showStretch() {
  const items = [...page.querySelectorAll('.stretches li')];
  const now = items.findLast((item) => item.dataset.start <= player.currentTime + 0.01);
  items.forEach((item) => item.classList.toggle('now', item === now));
}

function fit(width, height) {
  if (width && height) screen.style.setProperty('--ratio', width / height);
}

// To the moment in the address, as search gives it, and to its sentence.
function start() {
  const time = /^#t=([\d.]+)$/.exec(location.hash)?.[1];
  if (!time) return;
  player.currentTime = time;
  const row = [...page.querySelectorAll('.stretches li')].find(({ dataset }) => Number(dataset.start) === Number(time));
  row?.classList.add('now');
  row?.scrollIntoView({ block: 'nearest' });
}

if (player) {
  const loaded = () => {
    if (!player.videoWidth) { cannotPlay(); return; }
    fit(player.videoWidth, player.videoHeight);
    start();
  };
  player.addEventListener('error', cannotPlay);
  player.addEventListener('loadedmetadata', loaded);
  if (player.error) cannotPlay();
  if (player.readyState >= 1) loaded(); // before this script was
  addEventListener('hashchange', start);
  player.addEventListener('play', () => { heat.hidden = true; follow(); });
  player.addEventListener('timeupdate', () => {
    if (player.paused) follow();
    showNow();
    showStretch();
    tick();
  });
  find('#still').addEventListener('load', ({ target }) => fit(target.naturalWidth, target.naturalHeight));
  subtitle();
}
const picture = find('#picture');
if (picture) {
  const loaded = () => fit(picture.naturalWidth, picture.naturalHeight);
  picture.addEventListener('load', loaded);
  picture.addEventListener('error', showCover);
  if (picture.complete) (picture.naturalWidth ? loaded : showCover)();
}
lay();
begin();
arrange(page, player, path, update, () => saving);
tagging(page, path, update);
correctWithKeys(page, player, edit);
listen((topic, subject, state) => {
  if (topic === 'model' || (topic !== 'queue' && subject !== video) || isDeleting) return;
  if (topic === 'video' && state === 'deleted') location.assign(`${root}/?deleted=${video}`);
  else update();
});
