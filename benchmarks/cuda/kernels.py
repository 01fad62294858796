"""CUDA C++ of what measures the device itself."""

from __future__ import annotations

CHAINS, UNROLLED, COPIES = 8, 16, 4

_SOURCE = r"""
// Waits for so many nanoseconds.
extern "C" __global__ void wait(long long nanoseconds) {
  unsigned long long start, now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  while (now - start < (unsigned long long)nanoseconds);
}

// CHAINS sums a thread that do not depend on each other.
extern "C" __global__ void chains(double* out, double factor, double term, int rounds) {
  T f = (T)factor, t = (T)term, sums[CHAINS];
#pragma unroll
  for (int n = 0; n < CHAINS; ++n) sums[n] = (T)(threadIdx.x + n);
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int step = 0; step < UNROLLED; ++step) {
#pragma unroll
      for (int n = 0; n < CHAINS; ++n) sums[n] = FMA(sums[n], f, t);
    }
  }
  T sum = 0;
#pragma unroll
  for (int n = 0; n < CHAINS; ++n) sum += sums[n];
  if (sum == (T)-1) *out = (double)sum;  // never, which the compiler does not know
}

// The same sums, with weights that are parameters of the kernel: read from the constant bank, or
// from uniform registers where the compiler loads them there.
struct UniformWeights { T at[UNROLLED]; };
extern "C" __global__ void uniform_chains(double* out, UniformWeights weights, double term,
                                          int rounds) {
  T t = (T)term, sums[CHAINS];
#pragma unroll
  for (int n = 0; n < CHAINS; ++n) sums[n] = (T)(threadIdx.x + n);
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int step = 0; step < UNROLLED; ++step) {
#pragma unroll
      for (int n = 0; n < CHAINS; ++n) sums[n] = FMA(sums[n], weights.at[step], t);
    }
  }
  T sum = 0;
#pragma unroll
  for (int n = 0; n < CHAINS; ++n) sum += sums[n];
  if (sum == (T)-1) *out = (double)sum;
}

// 16 bytes a load, COPIES of them before the first store.
extern "C" __global__ void copy(const uint4* __restrict__ source, uint4* __restrict__ target,
                                long long count) {
  long long first = (long long)blockIdx.x * blockDim.x * COPIES + threadIdx.x;
  uint4 held[COPIES];
#pragma unroll
  for (int n = 0; n < COPIES; ++n)
    if (first + n * blockDim.x < count) held[n] = source[first + n * blockDim.x];
#pragma unroll
  for (int n = 0; n < COPIES; ++n)
    if (first + n * blockDim.x < count) target[first + n * blockDim.x] = held[n];
}
"""


def source(kind: str = "float") -> str:
    """The kernels, with chains of float or double."""
    defines = {
        "T": kind, "FMA": {"float": "fmaf", "double": "fma"}[kind],
        "CHAINS": CHAINS, "UNROLLED": UNROLLED, "COPIES": COPIES,
    }  # fmt: skip
    return "".join(f"#define {name} {value}\n" for name, value in defines.items()) + _SOURCE
