"""The first random numbers of many NumPy generators at once.

A generator for every example makes its numbers independent of batches and order, but costs 0.1 ms for 624 words of state,
of which four numbers need 16. This module computes only those words, for all examples of a batch together. NumPy guarantees both
`SeedSequence` and the stream of `RandomState`, so the numbers never change.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt32

# Of `SeedSequence` (after M. E. O'Neill, "Developing a seed_seq alternative", 2015).
_POOL, _SHIFT = 4, np.uint32(16)
_FIRST_A, _FACTOR_A, _FIRST_B, _FACTOR_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_MIX_LEFT, _MIX_RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
# Of MT19937 (Matsumoto & Nishimura, 1998).
_WORDS, _DISTANCE = 624, 397
_UPPER, _LOWER, _MATRIX = np.uint32(0x80000000), np.uint32(0x7FFFFFFF), np.uint32(0x9908B0DF)
# NumPy starts at the last word of the state, so this many numbers need no word that depends on other new words.
MOST = (_WORDS - _DISTANCE + 1) // 2


def uniforms(
    seeds: Sequence[int], examples: Int[np.ndarray, "example"], count: int
) -> Float[np.ndarray, "example count"]:
    """Random numbers for each example: `RandomState(MT19937(SeedSequence([*seeds, example]))).uniform(size=count)`.

    Args:
      seeds: the non-negative integers that all examples share.
      examples: the numbers of the examples, 0 to 2^32 - 1.
      count: the number of random numbers for each example, 1 to `MOST`.

    >>> uniforms([7, 0], np.array([3]), 2) == np.random.RandomState(
    ...     np.random.MT19937(np.random.SeedSequence([7, 0, 3]))
    ... ).uniform(size=2)
    array([[ True,  True]])
    """
    shared = [np.full(len(examples), word, np.uint32) for seed in seeds for word in _words_of(seed)]
    pool = _mixed([*shared, np.asarray(examples).astype(np.uint32)])
    computed = 2 * count - 1
    low, high = _state(pool, 0, computed + 1), _state(pool, _DISTANCE, computed)
    low[0] = _UPPER
    joined = (low[:-1] & _UPPER) | (low[1:] & _LOWER)
    twisted = high ^ (joined >> 1) ^ np.where(joined & 1, _MATRIX, np.uint32(0))
    words = _tempered(np.concatenate([_state(pool, _WORDS - 1, 1), twisted])).astype(np.uint64)
    return ((words[0::2] >> 5) * 2.0**26 + (words[1::2] >> 6)).T / 2.0**53


def _words_of(seed: int) -> list[int]:
    """The 32-bit words of an integer, the lowest first."""
    size = 4 * max(-(-seed.bit_length() // 32), 1)
    return np.frombuffer(seed.to_bytes(size, "little"), "<u4").tolist()


def _constants(first: int, factor: int, count: int) -> UInt32[np.ndarray, "count"]:
    """first, first * factor, first * factor^2, ... in 32 bits."""
    return np.multiply.accumulate(np.array([first] + [factor] * (count - 1), np.uint32), dtype=np.uint32)


_OF_STATE = _constants(_FIRST_B, _FACTOR_B, _WORDS + 1)


def _mixed(entropy: list[UInt32[np.ndarray, "example"]]) -> list[UInt32[np.ndarray, "example"]]:
    """The pool of `SeedSequence`, in which every word of the entropy affects every word."""
    constants = iter(_constants(_FIRST_A, _FACTOR_A, 2 + _POOL * (_POOL + len(entropy))))
    constant = next(constants)

    def hashed(value: UInt32[np.ndarray, "example"]) -> UInt32[np.ndarray, "example"]:
        nonlocal constant
        value = value ^ constant
        constant = next(constants)
        value = value * constant
        return value ^ (value >> _SHIFT)

    def mix(x: UInt32[np.ndarray, "example"], y: UInt32[np.ndarray, "example"]) -> UInt32[np.ndarray, "example"]:
        value = _MIX_LEFT * x - _MIX_RIGHT * y
        return value ^ (value >> _SHIFT)

    zeros = np.zeros_like(entropy[0])
    pool = [hashed(entropy[place] if place < len(entropy) else zeros) for place in range(_POOL)]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = mix(pool[target], hashed(pool[source]))
    for word in entropy[_POOL:]:
        for target in range(_POOL):
            pool[target] = mix(pool[target], hashed(word))
    return pool


def _state(pool: list[UInt32[np.ndarray, "example"]], first: int, count: int) -> UInt32[np.ndarray, "word example"]:
    """Some consecutive words of the state that `SeedSequence` gives to MT19937."""
    constants = _OF_STATE[first : first + count + 1, None]
    words = np.stack([pool[place % _POOL] for place in range(first, first + count)])
    words = (words ^ constants[:-1]) * constants[1:]
    return words ^ (words >> _SHIFT)


def _tempered(words: UInt32[np.ndarray, "word example"]) -> UInt32[np.ndarray, "word example"]:
    words = words ^ (words >> 11)
    words = words ^ ((words << 7) & np.uint32(0x9D2C5680))
    words = words ^ ((words << 15) & np.uint32(0xEFC60000))
    return words ^ (words >> 18)
