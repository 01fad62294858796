// Enough of CUDA for an ordinary C++20 compiler to run this project's kernels, blocks one after the
// other: what a kernel sees. How the threads of a block run is in cuda_emulator.cpp, which is compiled
// once for all kernels.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#define __global__
#define __device__
#define __grid_constant__
#define __noinline__
#define __restrict__
#define __launch_bounds__(...)

struct Index { unsigned x, y, z; };
extern Index blockDim, gridDim;
// The kernels have variables with some of these names.
namespace emulator {
struct Place { Index thread, block; };
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define A_THREAD_EACH
extern constinit thread_local Place* place;
#else
extern Place* place;
#endif
// Exactly as large as the launch asks, so that the address sanitizer sees the end.
extern unsigned char* shared_memory;
void copy_later(void* to, const void* from, int bytes);
void make_copies(int left);
}  // namespace emulator
#define threadIdx (emulator::place->thread)
#define blockIdx (emulator::place->block)
#define SHARED_MEMORY(T, name) T* name = reinterpret_cast<T*>(emulator::shared_memory)

void __syncthreads();
void __syncwarp();
int __syncthreads_or(int vote);
inline int thread_number() { return threadIdx.y * blockDim.x + threadIdx.x; }
// What every lane of this one's warp shows; a row each (see cuda_warp.h).
const unsigned long long (*shown_by_all(std::initializer_list<unsigned long long> mine))[4];
// Run `kernel(arguments)` in every thread of every block.
void launch(unsigned grid, unsigned bx, unsigned by, size_t bytes, void (*kernel)(void**), void**);

// Copies of a thread that it has to wait for (see async_copy.cuh): made only then, so that reading too
// early finds what was there before.
template <int BYTES> void copy_async(void* to, const void* from) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16);
  emulator::copy_later(to, from, BYTES);
}
void commit_copies();
template <int LEFT> void await_copies() { emulator::make_copies(LEFT); }

inline unsigned __float_as_uint(float v) { unsigned u; std::memcpy(&u, &v, 4); return u; }
inline float __uint_as_float(unsigned u) { float v; std::memcpy(&v, &u, 4); return v; }
inline long long __double_as_longlong(double v) { long long n; std::memcpy(&n, &v, 8); return n; }
inline double __longlong_as_double(long long n) { double v; std::memcpy(&v, &n, 8); return v; }
// What one thread writes before a fence and an atomic operation others see after theirs: the
// operations here are fences too.
inline void __threadfence() {}
inline int atomicAdd(int* at, int more) { return __atomic_fetch_add(at, more, __ATOMIC_SEQ_CST); }
inline int atomicOr(int* at, int bits) { return __atomic_fetch_or(at, bits, __ATOMIC_SEQ_CST); }
inline unsigned long long read_volatile(const unsigned long long* at) {
  return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}
inline unsigned long long atomicMax(unsigned long long* at, unsigned long long value) {
  auto before = read_volatile(at);
  while (before < value && !__atomic_compare_exchange_n(at, &before, value, true, __ATOMIC_SEQ_CST,
                                                        __ATOMIC_SEQ_CST)) {}
  return before;
}
inline unsigned opaque(unsigned value) { return value; }
inline int min(int a, int b) { return a < b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
using std::fabs, std::fma, std::fmaf, std::fmax, std::fmaxf, std::fmin, std::fminf, std::memcpy;
using std::ilogb, std::ldexp, std::rint, std::rintf, std::sqrt;
