"""A real voice: text to MP3 with hibari's built-in voice and libsndfile's encoder.

OpenAI's voice names are the same speaker at different pitches, so that they can be told apart: the other voices of
the package would have to be downloaded. Blocking; `local.py` calls it on a thread of its own.
"""

from __future__ import annotations

import io
import os
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["PITCHES", "Voice", "split_text"]

# Factor on the speaker's pitch for each of OpenAI's voice names.
PITCHES: Final = {
    "alloy": 1.0,
    "ash": 0.88,
    "ballad": 0.94,
    "coral": 1.08,
    "echo": 0.84,
    "fable": 0.97,
    "nova": 1.12,
    "onyx": 0.80,
    "sage": 1.04,
    "shimmer": 1.18,
    "verse": 0.91,
}
_MAX_CHARACTERS: Final = 300  # spoken at once; what the model has in memory grows with it
_RATE: Final = 24_000  # samples per second
_SILENCE_SECONDS: Final = 0.3  # stands in for text without anything to pronounce, as other scripts and emoji
_COMPRESSION: Final = (
    0.7  # 56 kbit/s; from here on LAME writes no header frame that would have to be mended at the end
)


class Voice:
    """The loaded speaker.

    Loading takes about half a second.
    """

    def __init__(self) -> None:
        # onnxruntime 1.32 and later reports its use to its maker unless told so before it is imported.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        from hibari import Hibari  # noqa: PLC0415 - an optional package

        self._speaker: Any = Hibari()
        # Loads what the package would load with the first sentence.
        self._speaker("Ready.", seed=0)

    def speak(self, text: str, voice: str, speed: float) -> Generator[bytes]:
        """Yield MP3 data, a part as soon as each sentence is spoken; the same for the same arguments.

        Args:
            text: what is spoken.
            voice: any name; one that is not in `PITCHES` stands for one that is.
            speed: 1 is normal.
        """
        import numpy as np  # noqa: PLC0415 - comes with hibari
        import soundfile  # noqa: PLC0415 - an optional package

        pitch = PITCHES.get(voice) or list(PITCHES.values())[zlib.crc32(voice.encode()) % len(PITCHES)]
        buffer = io.BytesIO()
        sent = 0
        with soundfile.SoundFile(
            buffer,
            "w",
            _RATE,
            1,
            subtype="MPEG_LAYER_III",
            format="MP3",
            bitrate_mode="CONSTANT",
            compression_level=_COMPRESSION,
        ) as encoder:
            for sentence in split_text(text, self._speaker.split_sentences):
                audio = self._speaker(sentence, speed=speed / pitch, seed=0)
                if len(audio) == 0:
                    audio = np.zeros(int(_RATE * _SILENCE_SECONDS), np.float32)
                # Played faster it is higher; it was spoken that much slower.
                encoder.write(np.interp(np.arange(0, len(audio), pitch), np.arange(len(audio)), audio))
                if len(buffer.getvalue()) > sent:
                    yield buffer.getvalue()[sent:]
                    sent = len(buffer.getvalue())
        yield buffer.getvalue()[sent:]


def split_text(text: str, split_sentences: Any) -> Iterator[str]:
    """Yield sentences; those too long to be spoken at once in parts, cut at spaces where there are any."""
    for sentence in split_sentences(text) or [text]:
        rest = sentence
        while len(rest) > _MAX_CHARACTERS:
            cut = rest.rfind(" ", 0, _MAX_CHARACTERS) + 1 or _MAX_CHARACTERS
            yield rest[:cut]
            rest = rest[cut:]
        if rest:
            yield rest
