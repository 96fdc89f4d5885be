#include "textflag.h"

// After V. Gopal, E. Ozturk et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009).
//
// Bits that stand d places before others count x^d as much. Moving 128 bits on by d: the half that comes first times
// x^(d+32) mod P, the other times x^(d-32) mod P (reflected, and one place on, as the product of two reflected numbers is).
// fold_test.go computes them anew.

DATA by256<>+0(SB)/8, $0x0dcb17aa4
DATA by256<>+8(SB)/8, $0x0b9e02b86
GLOBL by256<>(SB), RODATA|NOPTR, $16

DATA by64<>+0(SB)/8, $0x0740eef02
DATA by64<>+8(SB)/8, $0x09e4addf8
GLOBL by64<>(SB), RODATA|NOPTR, $16

DATA by16<>+0(SB)/8, $0x0f20c0dfe
DATA by16<>+8(SB)/8, $0x14cd00bd6
GLOBL by16<>(SB), RODATA|NOPTR, $16

// STEP(sum, next): sum moved on by what Z30 says, and next added to it.
#define STEP(sum, next) \
	VPCLMULQDQ $0x00, Z30, sum, Z28 \
	VPCLMULQDQ $0x11, Z30, sum, Z29 \
	VMOVDQU64  next, sum            \
	VPTERNLOGQ $0x96, Z28, Z29, sum

// func fold(state uint32, p *byte, n int) uint32
TEXT ·fold(SB), NOSPLIT, $0-28
	MOVL state+0(FP), AX
	MOVQ p+8(FP), SI
	MOVQ n+16(FP), CX

	// Four sums of 64 bytes; the state belongs to the first four bytes.
	VMOVD     AX, X31
	VMOVDQU64 (SI), Z0
	VMOVDQU64 64(SI), Z1
	VMOVDQU64 128(SI), Z2
	VMOVDQU64 192(SI), Z3
	VPXORQ    Z31, Z0, Z0
	ADDQ      $256, SI
	SUBQ      $256, CX

	VBROADCASTI32X4 by256<>(SB), Z30

loop:
	CMPQ CX, $256
	JB   four
	STEP(Z0, (SI))
	STEP(Z1, 64(SI))
	STEP(Z2, 128(SI))
	STEP(Z3, 192(SI))
	ADDQ $256, SI
	SUBQ $256, CX
	JMP  loop

four:
	VBROADCASTI32X4 by64<>(SB), Z30
	STEP(Z0, Z1)
	STEP(Z0, Z2)
	STEP(Z0, Z3)

rest:
	CMPQ CX, $64
	JB   one
	STEP(Z0, (SI))
	ADDQ $64, SI
	SUBQ $64, CX
	JMP  rest

one:
	// 64 bytes to 16.
	VBROADCASTI32X4 by16<>(SB), Z30
	VEXTRACTI32X4   $1, Z0, X1
	VEXTRACTI32X4   $2, Z0, X2
	VEXTRACTI32X4   $3, Z0, X3
	STEP(Z0, Z1)
	STEP(Z0, Z2)
	STEP(Z0, Z3)

	// What is left is as good as the bytes themselves.
	VMOVQ   X0, AX
	VPEXTRQ $1, X0, DX
	XORL    BX, BX
	CRC32Q  AX, BX
	CRC32Q  DX, BX
	VZEROUPPER
	MOVL    BX, ret+24(FP)
	RET
