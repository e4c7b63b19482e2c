"""Scripts: calls of machine code that are made without Python, again and again.

What a call is given is the same every time, or is known only when the script is performed: an
address that XLA passes on, or a number beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .own_code import own_code

_WORD = 8
_ARGUMENTS = 4
"""Of a call at most."""
_ALL_BITS = 0xFFFF_FFFF


class Given(NamedTuple):
    """A word that is known when a script is performed."""

    number: int
    """Which of them."""
    beyond: int = 0
    """How much is added to it."""


Word = int | Given
"""A number or an address."""


class Script:
    """Calls of machine code, in order; performed by one thread at a time."""

    def __init__(self) -> None:
        self._settings: list[tuple[int, Word]] = []
        self._calls: list[tuple[int, tuple[Word, ...], bool]] = []
        self._kept: list[Any] = []

    def set(self, place: int, word: Word) -> None:
        """Writes a word before the first call.

        Args:
            place: The address of room for it.
            word: Of a number, that is written every time anew.
        """
        self._settings.append((place, word))

    def call(self, function: int, *arguments: Word, checked: bool = False) -> None:
        """Calls a function.

        Args:
            function: Its address.
            arguments: At most four.
            checked: It returns an `int`, and if that is not 0 the script ends.
        """
        self._calls.append((function, arguments, checked))

    def move(self, target: Word, source: Word, size: int) -> None:
        """Copies so many bytes."""
        self.call(own_code().addresses["move"], target, source, size)

    def zero(self, target: Word, size: int) -> None:
        """Writes so many bytes of zeros."""
        self.call(own_code().addresses["zero"], target, size)

    def keep(self, *needed: Any) -> None:
        """Objects that have to be there as long as the script."""
        self._kept.extend(needed)

    @property
    def address(self) -> int:
        """Where the script is, as `own_code` reads it, when it is complete."""
        return self._words.ctypes.data

    def perform(self, given: Sequence[int]) -> int:
        """Makes the calls.

        Args:
            given: What `Given` names.

        Returns:
            0, or what the checked call returned with which it ended.
        """
        words = np.array([0, *given], np.int64)
        return own_code().perform(words.ctypes.data, self.address)

    @functools.cached_property
    def _words(self) -> np.ndarray:
        # Settings, each where to, which of what is given, and how much is added to it; 0.
        # Calls, each a function, its arguments, and the bits of its answer that count; 0.
        # Of what is given the first is always 0.
        settings = list(self._settings)
        given = [
            (call, place, word)
            for call, (_, arguments, _) in enumerate(self._calls)
            for place, word in enumerate(arguments)
            if isinstance(word, Given)
        ]
        at_calls = 3 * (len(settings) + len(given)) + 1
        each = _ARGUMENTS + 2
        words = np.zeros(at_calls + each * len(self._calls) + 1, np.uint64)
        base = words.ctypes.data
        for call, place, word in given:
            settings.append((base + _WORD * (at_calls + each * call + 1 + place), word))
        for number, (place, word) in enumerate(settings):
            read = (word.number + 1, word.beyond) if isinstance(word, Given) else (0, word)
            words[3 * number : 3 * number + 3] = (place, *read)
        for number, (function, arguments, checked) in enumerate(self._calls):
            begin = at_calls + each * number
            words[begin] = function
            for place, word in enumerate(arguments, start=begin + 1):
                words[place] = 0 if isinstance(word, Given) else word
            words[begin + each - 1] = _ALL_BITS if checked else 0
        return words
