// Enough of CUDA for an ordinary C++20 compiler to run this project's kernels: one std::thread for
// every thread of a block, std::barrier for __syncthreads, blocks one after the other. What the
// sanitizers say of the threads is then true of the kernel.
#pragma once
#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __grid_constant__
#define __noinline__
#define __restrict__
#define __launch_bounds__(...)

struct Index { unsigned x, y, z; };
// What the lanes of a warp show each other (see cuda_warp.h), in turn in one half and the other: a
// lane that is ahead writes where the others have finished reading.
struct Warp {
  std::barrier<> barrier;
  unsigned long long shown[2][32][4];
  explicit Warp(int lanes) : barrier(lanes) {}
};
struct Block {
  std::barrier<> barrier;
  std::vector<std::unique_ptr<Warp>> warps;
  std::vector<int> votes;
  std::vector<unsigned char> shared;  // exactly as large as the launch asks, so ASan sees the end
  Block(int threads, size_t bytes) : barrier(threads), votes(threads), shared(bytes) {
    for (int first = 0; first < threads; first += 32)
      warps.push_back(std::make_unique<Warp>(std::min(32, threads - first)));
  }
};
inline thread_local Index threadIdx, blockIdx;
inline thread_local int turn;
inline Index blockDim, gridDim;
inline Block* current_block;

inline int thread_number() { return threadIdx.y * blockDim.x + threadIdx.x; }
inline Warp& current_warp() { return *current_block->warps[thread_number() / 32]; }
inline void __syncthreads() { current_block->barrier.arrive_and_wait(); }
inline void __syncwarp() { current_warp().barrier.arrive_and_wait(); }
inline int __syncthreads_or(int vote) {
  current_block->votes[thread_number()] = vote;
  current_block->barrier.arrive_and_wait();
  int any = 0;
  for (int v : current_block->votes) any |= v;
  current_block->barrier.arrive_and_wait();
  return any;
}

// Copies of a thread that it has to wait for (see async_copy.cuh): made only then, so that reading too
// early finds what was there before.
struct Copy { void* to; const void* from; int bytes; };
inline thread_local std::vector<Copy> open_copies;
inline thread_local std::vector<std::vector<Copy>> groups;
template <int BYTES> void copy_async(void* to, const void* from) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16);
  if ((size_t)to % BYTES || (size_t)from % BYTES) {
    fprintf(stderr, "a copy of %d bytes from or to a misaligned address\n", BYTES);
    abort();
  }
  open_copies.push_back({to, from, BYTES});
}
inline void commit_copies() {
  groups.push_back(std::move(open_copies));
  open_copies.clear();
}
template <int LEFT> void await_copies() {
  while (groups.size() > LEFT) {
    for (auto& copy : groups.front()) std::memcpy(copy.to, copy.from, copy.bytes);
    groups.erase(groups.begin());
  }
}
#define SHARED_MEMORY(T, name) T* name = reinterpret_cast<T*>(current_block->shared.data())

inline unsigned __float_as_uint(float v) { unsigned u; std::memcpy(&u, &v, 4); return u; }
inline float __uint_as_float(unsigned u) { float v; std::memcpy(&v, &u, 4); return v; }
inline long long __double_as_longlong(double v) { long long n; std::memcpy(&n, &v, 8); return n; }
inline double __longlong_as_double(long long n) { double v; std::memcpy(&v, &n, 8); return v; }
// What one thread writes before a fence and an atomic operation others see after theirs: the
// operations here are fences too.
inline void __threadfence() {}
inline int atomicAdd(int* at, int more) { return std::atomic_ref<int>(*at).fetch_add(more); }
inline unsigned long long peek(const unsigned long long* at) {
  return std::atomic_ref<unsigned long long>(*const_cast<unsigned long long*>(at)).load();
}
inline unsigned long long atomicMax(unsigned long long* at, unsigned long long value) {
  std::atomic_ref<unsigned long long> there(*at);
  auto before = there.load();
  while (before < value && !there.compare_exchange_weak(before, value)) {}
  return before;
}
inline unsigned opaque(unsigned value) { return value; }
inline int atomicOr(int* at, int bits) { return std::atomic_ref<int>(*at).fetch_or(bits); }
inline int min(int a, int b) { return a < b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
using std::fabs, std::fma, std::fmaf, std::fmax, std::fmaxf, std::fmin, std::fminf, std::memcpy, std::ilogb, std::ldexp, std::rint, std::rintf, std::sqrt;

template <class Kernel>
void launch(unsigned grid, unsigned bx, unsigned by, size_t bytes, Kernel kernel) {
  gridDim = {grid, 1, 1};
  blockDim = {bx, by, 1};
  Block block(bx * by, bytes);
  current_block = &block;
  std::vector<std::thread> threads;
  for (unsigned y = 0; y < by; ++y)
    for (unsigned x = 0; x < bx; ++x)
      threads.emplace_back([=, &block] {
        threadIdx = {x, y, 0};
        for (unsigned b = 0; b < grid; ++b) {
          blockIdx = {b, 0, 0};
          kernel();
          await_copies<0>();
          block.barrier.arrive_and_wait();  // shared memory passes to the next block
        }
      });
  for (auto& thread : threads) thread.join();
}
