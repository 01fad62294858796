// Instructions that a warp executes together, behind plain functions: matrix products on the tensor
// cores, the loads that feed them, and rounding to TF32. They need sm_80.
//
// A matrix of 8 rows of 16 bytes is spread over a warp, one register a lane: lane 4 i + t holds bytes
// 4 t to 4 t + 3 of row i (two halves, or one float). `multiply` adds a product to a 16 x 8 matrix of
// floats, of which lane 4 i + t holds columns 2 t and 2 t + 1: c[0] and c[1] in row i, c[2] and c[3] in
// row i + 8. a[0] and a[1] are the upper and lower 8 rows of the left factor, u the right factor
// transposed; a[2], a[3] and v are the next 16 bytes of both.
#pragma once

#ifdef __CUDA_ARCH__

__device__ inline unsigned shared_address(const void* p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

// Loads four matrices of 8 rows of 16 bytes; lane 8 n + i passes the address of row i of matrix n.
__device__ inline void load_matrices(unsigned (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row)) : "memory");
}

// Loads two of them; the addresses that lanes 16 to 31 pass are not used.
__device__ inline void load_matrices(unsigned (&to)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(to[0]), "=r"(to[1]) : "r"(shared_address(row)) : "memory");
}

#define MULTIPLY(T, whole, half)                                                               \
  __device__ inline void multiply(T, float (&c)[4], const unsigned (&a)[4], unsigned u,        \
                                  unsigned v) {                                                \
    asm("mma.sync.aligned." whole " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "            \
        "{%0, %1, %2, %3};"                                                                    \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                       \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(u), "r"(v));                         \
  }                                                                                            \
  __device__ inline void multiply(T, float (&c)[4], const unsigned (&a)[2], unsigned u) {      \
    asm("mma.sync.aligned." half " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"        \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(u));      \
  }
MULTIPLY(Half, "m16n8k16.row.col.f32.f16.f16.f32", "m16n8k8.row.col.f32.f16.f16.f32")
MULTIPLY(Bfloat, "m16n8k16.row.col.f32.bf16.bf16.f32", "m16n8k8.row.col.f32.bf16.bf16.f32")
MULTIPLY(float, "m16n8k8.row.col.f32.tf32.tf32.f32", "m16n8k4.row.col.f32.tf32.tf32.f32")
#undef MULTIPLY

// Rounds a float to the 10 bits of mantissa of TF32.
__device__ inline unsigned to_tf32(unsigned bits) {
  unsigned rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
}

// Returns its argument, but hides from the compiler that it does.
__device__ inline int opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

#else
#include "cuda_warp.h"  // the emulator's versions of these functions
#endif

// A pixel or tap, or a register of them, as a factor of a product: floats are rounded to TF32 first.
__device__ inline float to_float(Half v) { return half_to_float(v.bits); }
__device__ inline float to_float(Bfloat v) { return __uint_as_float((unsigned)v.bits << 16); }
__device__ inline float to_float(float v) { return __uint_as_float(to_tf32(__float_as_uint(v))); }
__device__ inline unsigned factor(Half, unsigned bits) { return bits; }
__device__ inline unsigned factor(Bfloat, unsigned bits) { return bits; }
__device__ inline unsigned factor(float, unsigned bits) { return to_tf32(bits); }
