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
struct Block {
  std::barrier<> barrier;
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  std::vector<unsigned char> shared;  // exactly as large as the launch asks, so ASan sees the end
  Block(int threads, size_t bytes) : barrier(threads), shared(bytes) {
    for (int first = 0; first < threads; first += 32)
      warps.push_back(std::make_unique<std::barrier<>>(std::min(32, threads - first)));
  }
};
inline thread_local Index threadIdx, blockIdx;
inline Index blockDim, gridDim;
inline Block* current_block;

inline void __syncthreads() { current_block->barrier.arrive_and_wait(); }
inline void __syncwarp() {
  unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
  current_block->warps[thread / 32]->arrive_and_wait();
}

// Copies of a thread that it has to wait for (see async.cuh): made only then, so that reading too
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
inline int atomicOr(int* at, int bits) { return std::atomic_ref<int>(*at).fetch_or(bits); }
inline int min(int a, int b) { return a < b ? a : b; }
using std::fabs, std::fma, std::fmaf, std::rint, std::rintf;

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
