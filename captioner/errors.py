"""What can go wrong in a way that its user can mend."""


class CaptionerError(Exception):
    """An error whose message names the file, what is wrong with it and what to do."""


class VideoError(CaptionerError):
    """A file cannot be read as a video."""


class ModelError(CaptionerError):
    """A model folder, or a backbone that it names, cannot be used."""


class DatasetError(CaptionerError):
    """Labelled clips cannot be used as they are."""
