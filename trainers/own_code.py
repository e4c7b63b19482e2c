"""Machine code of our own: what stands between XLA, which calls, and the code that is called.

x86-64, by the calling conventions of the System V ABI. A test assembles `SOURCE` and compares.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import struct
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .machine_code import address_of, executable_memory

SOURCE = """
# go_through(list, blocks): for each block calls functions, each with its frame, until there is
# none; then moves addresses on, see trainers.block_program.
go_through:
    push rbx
    push r12
    push r13
    mov r12, rdi
    mov r13, rsi
    test r13, r13
    jz 5f
1:  mov rbx, r12
2:  mov rax, [rbx]              # a function
    test rax, rax
    jz 3f
    mov rdi, [rbx+8]            # its frame
    call rax
    add rbx, 16
    jmp 2b
3:  add rbx, 16
    mov rax, [rbx]              # the place of an address
    test rax, rax
    jz 4f
    mov rcx, [rbx+8]            # how far it is to the next block
    add [rax], rcx
    jmp 3b
4:  dec r13
    jnz 1b
5:  xor eax, eax
    pop r13
    pop r12
    pop rbx
    ret

# copy(frame): a loop like those of XLA's, of its frame's first array to its second.
copy:
    mov rax, [rdi+24]
    mov rsi, [rax]
    mov rdx, [rax+8]
    mov rdi, [rax+16]

# move(target, source, bytes)
move:
    mov rcx, rdx
    rep movsb
    xor eax, eax
    ret

# zero(target, bytes)
zero:
    mov rcx, rsi
    xor eax, eax
    rep stosb
    ret

# perform(given, script): 0, or what the first checked call returned that was not 0, see
# trainers.script.
perform:
    push rbx
    push rbp
    push r12
    mov rbx, rsi
    xor ebp, ebp
1:  mov rax, [rbx]              # where to
    test rax, rax
    jz 2f
    mov rcx, [rbx+8]            # which of what is given
    mov rcx, [rdi+rcx*8]
    add rcx, [rbx+16]           # and how many bytes behind it
    mov [rax], rcx
    add rbx, 24
    jmp 1b
2:  add rbx, 8
3:  mov rax, [rbx]              # a function
    test rax, rax
    jz 4f
    mov rdi, [rbx+8]
    mov rsi, [rbx+16]
    mov rdx, [rbx+24]
    mov rcx, [rbx+32]
    call rax
    and eax, [rbx+40]           # the bits of its answer that count
    mov ebp, eax
    jnz 4f
    add rbx, 48
    jmp 3b
4:  mov eax, ebp
    pop r12
    pop rbp
    pop rbx
    ret

# handle(call, slot, mask, other): what XLA calls, by way of trainers.scripted's entry: performs
# the script of an idle slot for this call, or leaves it to the other function.
handle:
    cmp qword ptr [rdi+8], 0    # XLA asks for something else
    jne 4f
    mov rax, [rdi+160]          # attributes
    mov rax, [rax]
    mov rax, [rax+8]
    mov r8, [rax]               # the first one's value
    mov rax, [rdi+72]           # operands
    mov rax, [rax]
    mov rax, [rax+24]
    mov r9d, [rax]              # the first one's first number
    and r9, rdx
1:  cmp r8, [rsi+8]
    jne 3f
    cmp r9, [rsi+16]
    jne 3f
    mov eax, 1
    xchg eax, [rsi]             # whoever finds a 0 has it
    test eax, eax
    jnz 3f
    cmp r8, [rsi+8]             # it may have become another call's meanwhile
    jne 2f
    cmp r9, [rsi+16]
    je 5f
2:  mov dword ptr [rsi], 0
3:  mov rsi, [rsi+24]           # the next slot
    test rsi, rsi
    jnz 1b
4:  jmp rcx
5:  push rbx
    push rbp
    push r12
    mov rbx, rsi
    mov rbp, rdi
    mov r12, rcx
    sub rsp, 128                # what is given: zero, then addresses and attributes
    mov qword ptr [rsp], 0
    lea rdx, [rsp+8]
    mov rcx, [rbp+56]           # operands
    mov rsi, [rbp+72]
6:  dec rcx
    js 7f
    mov rax, [rsi]
    mov rax, [rax+24]
    mov [rdx], rax
    add rsi, 8
    add rdx, 8
    jmp 6b
7:  mov rcx, [rbp+96]           # results
    mov rsi, [rbp+112]
8:  dec rcx
    js 9f
    mov rax, [rsi]
    mov rax, [rax+24]
    mov [rdx], rax
    add rsi, 8
    add rdx, 8
    jmp 8b
9:  mov rcx, [rbp+136]          # attributes
    mov rsi, [rbp+160]
10: dec rcx
    js 11f
    mov rax, [rsi]
    mov rax, [rax+8]
    mov rax, [rax]
    mov [rdx], rax
    add rsi, 8
    add rdx, 8
    jmp 10b
11: mov rdi, rsp
    mov rsi, [rbx+32]           # the script
    call perform
    mov dword ptr [rbx], 0
    mov rdi, rbp
    mov rcx, r12
    add rsp, 128
    pop r12
    pop rbp
    pop rbx
    test eax, eax               # the other function finds out what went wrong
    jnz 4b
    ret
"""
"""In the GNU assembler's words, Intel's syntax."""

CODE = bytes.fromhex(
    "53415441554989fc4989f54d85ed74314c89e3488b034885c0740c488b7b08ffd04883c310ebec48"
    "83c310488b034885c07409488b4b08480108ebeb49ffcd75cf31c0415d415c5bc3488b4718488b30"
    "488b5008488b78104889d1f3a431c0c34889f131c0f3aac3535541544889f331ed488b034885c074"
    "15488b4b08488b0ccf48034b104889084883c318ebe34883c308488b034885c0741f488b7b08488b"
    "7310488b5318488b4b20ffd023432889c575064883c330ebd989e8415c5d5bc348837f0800755448"
    "8b87a0000000488b00488b40084c8b00488b4748488b00488b4018448b084921d14c3b460875234c"
    "3b4e10751db801000000870685c075124c3b460875064c3b4e107411c70600000000488b76184885"
    "f675ceffe1535541544889f34889fd4989cc4881ec8000000048c7042400000000488d542408488b"
    "4d38488b754848ffc97814488b06488b40184889024883c6084883c208ebe7488b4d60488b757048"
    "ffc97814488b06488b40184889024883c6084883c208ebe7488b8d88000000488bb5a000000048ff"
    "c97817488b06488b4008488b004889024883c6084883c208ebe44889e7488b7320e8b2feffffc703"
    "000000004889ef4c89e14881c480000000415c5d5b85c00f8546ffffffc3"
)
ENTRIES: Mapping[str, int] = {
    "go_through": 0,
    "copy": 73,
    "move": 88,
    "zero": 96,
    "perform": 104,
    "handle": 192,
}
"""Where functions begin."""


class OwnCode(NamedTuple):
    """The same in memory."""

    memory: mmap.mmap
    addresses: Mapping[str, int]
    """Of the functions by name."""
    perform: Callable[[int, int], int]
    """(address of what is given, of a script) to a status; other threads of Python run meanwhile."""


def runs() -> bool:
    """Whether this machine runs it."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return False
    try:
        own_code()
    except OSError:
        return False
    return True


@functools.cache
def own_code() -> OwnCode:
    """Of this process.

    Raises:
        OSError: The system gives no memory that may be executed.
    """
    memory = executable_memory(mmap.PAGESIZE)
    memory.write(CODE)
    begin = address_of(memory)
    addresses = {name: begin + offset for name, offset in ENTRIES.items()}
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    return OwnCode(memory, addresses, prototype(addresses["perform"]))


def entry(slot: int, mask: int, other: int) -> mmap.mmap:
    """A function of a call alone, that hands it to `handle`.

    Args:
        slot: Address of the first slot,
        mask: bits of the number that count,
        other: and the function for what has no script: the last three operands of `handle`.

    Returns:
        Memory that begins with the function.

    Raises:
        OSError: The system gives no memory that may be executed.
    """
    # mov rsi, slot; mov rdx, mask; mov rcx, other; mov rax, handle; jmp rax
    memory = executable_memory(mmap.PAGESIZE)
    handle = own_code().addresses["handle"]
    memory.write(
        struct.pack(
            "<2sQ2sQ2sQ2sQ2s",
            b"\x48\xbe",
            slot,
            b"\x48\xba",
            mask,
            b"\x48\xb9",
            other,
            b"\x48\xb8",
            handle,
            b"\xff\xe0",
        )
    )
    return memory
