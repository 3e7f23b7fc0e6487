"""Wrapper of users' codecs: what they write has to be JSON, and to come back the same, or it is not stored. Pure."""

from __future__ import annotations

from typing import Any

from exp_pool.core.contracts.plugs import Codec
from exp_pool.core.values.annotated import same_text
from exp_pool.core.values.codec_stamp import ANNOTATED, TYPED, CodecStamp, read_stamp
from exp_pool.core.values.deep_equal import difference, type_name
from exp_pool.core.values.encoding import strict_decoder
from exp_pool.errors import ConfigurationError, DecodingError, EncodingError


class CheckedCodec:
    """A codec of the user's own, held to what every codec must keep."""

    def __init__(self, codec: Codec) -> None:
        self.name = codec.name
        self._codec = codec

    def encode(self, value: Any) -> str:
        """Its text, once it is shown to be JSON and to come back the same.

        Raises:
            EncodingError: it is not, it would not, or the codec raised.
        """
        text = self._write(value)
        try:
            back = self.decode(text)
        except DecodingError as err:
            raise EncodingError(f"the codec {self.name!r} cannot read its own text: {err}") from err
        what = difference(value, back)
        if what is None and not same_text(text, self._write(back)):
            what = "it is written differently the second time"
        if what is not None:
            raise EncodingError(f"{type_name(value)} comes back different by the codec {self.name!r}: {what}")
        return text

    def decode(self, text: str) -> Any:
        """The value.

        Raises:
            DecodingError: whatever the codec raised.
        """
        try:
            return self._codec.decode(text)
        except DecodingError:
            raise
        except Exception as err:  # the user's code
            raise DecodingError(f"the codec {self.name!r} raised {type(err).__name__}: {err}") from err

    def _write(self, value: Any) -> str:
        try:
            text: Any = self._codec.encode(value)
        except EncodingError:
            raise
        except Exception as err:  # the user's code
            raise EncodingError(f"the codec {self.name!r} raised {type(err).__name__}: {err}") from err
        if type(text) is not str:
            raise EncodingError(f"the codec {self.name!r} gave a {type_name(text)}; encode must give JSON text")
        try:
            strict_decoder.decode(text)
            text.encode()  # engines keep no lone surrogates
        except (ValueError, RecursionError) as err:
            raise EncodingError(f"the codec {self.name!r} gave text that is not JSON: {err}") from err
        return text


def valid(codec: Any) -> Codec:
    """The codec.

    Raises:
        ConfigurationError: it is none, or its name is taken.
    """
    name = getattr(codec, "name", None)
    if isinstance(codec, type):
        raise ConfigurationError(f"codec={codec!r} is a class; give an instance of it")
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"codec={codec!r} needs a name: text that is not empty, stored with each record")
    if read_stamp(name) != CodecStamp(name) or "[" in name:
        raise ConfigurationError(f"codec={codec!r} is named {name!r}: leave out '[' and what stands behind '@'")
    if name in (TYPED, ANNOTATED):
        raise ConfigurationError(f"codec={codec!r} is named {name!r}, as one of the package's own; choose another name")
    if not (callable(getattr(codec, "encode", None)) and callable(getattr(codec, "decode", None))):
        raise ConfigurationError(f"codec={codec!r} needs encode(value), which gives JSON text, and decode(text)")
    return codec  # type: ignore[no-any-return]
