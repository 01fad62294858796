// Enough of CUDA for an ordinary C++20 compiler to run this project's kernels, blocks one after the
// other. For a sanitizer every thread of a block is a std::thread and __syncthreads a std::barrier, so
// that what it says of the threads is true of the kernel. Otherwise the threads of a block take turns
// on one: a switch between threads of the system, at every barrier, would cost more than the kernel.
#pragma once
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define A_THREAD_EACH
#include <barrier>
#include <thread>
#else
#include <functional>
#include <ucontext.h>
#endif
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __grid_constant__
#define __noinline__
#define __restrict__
#define __launch_bounds__(...)

struct Index { unsigned x, y, z; };
// How the threads of a block run. The kernels have variables with some of these names.
namespace emulator {
struct Copy { void* to; const void* from; int bytes; };
// What each thread of a block has for itself.
struct Own {
  Index thread, block;
  int turn = 0;
  std::vector<Copy> open_copies;
  std::vector<std::vector<Copy>> groups;
};

#ifdef A_THREAD_EACH
using Barrier = std::barrier<>;
inline thread_local Own own_of_thread;
inline Own& own() { return own_of_thread; }

// Call `work(n)` for n < count, each in a thread.
template <class Work> void run_together(unsigned count, Work work) {
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < count; ++n) threads.emplace_back([=] { work(n); });
  for (auto& thread : threads) thread.join();
}
#else
struct Fiber {
  static constexpr size_t STACK = 1 << 20;
  Own own;
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[STACK]};  // not initialized: pages are there once used
  std::function<void()> work;
  const unsigned* round = nullptr;  // of the barrier where it waits until `round` is no longer `seen`
  unsigned seen;
  bool done = false;
};
inline Fiber* running;
inline ucontext_t between_turns;
inline Own& own() { return running->own; }

struct Barrier {
  unsigned members, arrived = 0, round = 0;
  explicit Barrier(int members) : members(members) {}
  void arrive_and_wait() {
    if (++arrived == members) {
      arrived = 0;
      ++round;
    } else {
      running->round = &round;
      running->seen = round;
      swapcontext(&running->context, &between_turns);
    }
  }
};

inline void begin() {
  running->work();
  running->done = true;
}

// Call `work(n)` for n < count, each on a stack of its own. Who waits for a barrier is passed over until
// it opens; the turns go up and down, so that no thread is always ahead of another.
template <class Work> void run_together(unsigned count, Work work) {
  std::vector<Fiber> fibers(count);
  for (unsigned n = 0; n < count; ++n) {
    Fiber& fiber = fibers[n];
    fiber.work = [=] { work(n); };
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = Fiber::STACK;
    fiber.context.uc_link = &between_turns;
    makecontext(&fiber.context, begin, 0);
  }
  unsigned left = count;
  for (bool up = true; left; up = !up) {
    bool stuck = true;
    for (unsigned n = 0; n < count; ++n) {
      running = &fibers[up ? n : count - 1 - n];
      if (running->done || (running->round && *running->round == running->seen)) continue;
      running->round = nullptr;
      stuck = false;
      swapcontext(&between_turns, &running->context);
      left -= running->done;
    }
    if (stuck) {
      fprintf(stderr, "threads wait at a barrier for others that have ended or wait at another\n");
      abort();
    }
  }
}
#endif
}  // namespace emulator

// What the lanes of a warp show each other (see cuda_warp.h), in turn in one half and the other: a
// lane that is ahead writes where the others have finished reading.
struct Warp {
  emulator::Barrier barrier;
  unsigned long long shown[2][32][4];
  explicit Warp(int lanes) : barrier(lanes) {}
};
struct Block {
  emulator::Barrier barrier;
  std::vector<std::unique_ptr<Warp>> warps;
  std::vector<int> votes;
  std::vector<unsigned char> shared;  // exactly as large as the launch asks, so ASan sees the end
  Block(int threads, size_t bytes) : barrier(threads), votes(threads), shared(bytes) {
    for (int first = 0; first < threads; first += 32)
      warps.push_back(std::make_unique<Warp>(std::min(32, threads - first)));
  }
};
#define threadIdx (emulator::own().thread)
#define blockIdx (emulator::own().block)
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
template <int BYTES> void copy_async(void* to, const void* from) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16);
  if ((size_t)to % BYTES || (size_t)from % BYTES) {
    fprintf(stderr, "a copy of %d bytes from or to a misaligned address\n", BYTES);
    abort();
  }
  emulator::own().open_copies.push_back({to, from, BYTES});
}
inline void commit_copies() {
  emulator::own().groups.push_back(std::move(emulator::own().open_copies));
  emulator::own().open_copies.clear();
}
template <int LEFT> void await_copies() {
  auto& groups = emulator::own().groups;
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
  emulator::run_together(bx * by, [=, &block](unsigned n) {
    threadIdx = {n % bx, n / bx, 0};
    for (unsigned b = 0; b < grid; ++b) {
      blockIdx = {b, 0, 0};
      kernel();
      await_copies<0>();
      block.barrier.arrive_and_wait();  // shared memory passes to the next block
    }
  });
}
