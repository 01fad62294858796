// How the threads of a block run (see cuda_emulator.h). For a sanitizer every thread of a block is a
// std::thread and __syncthreads a std::barrier, so that what it says of the threads is true of the
// kernel. Otherwise the threads of a block take turns on one: a switch between threads of the system,
// at every barrier, would cost more than the kernel.
#include "cuda_emulator.h"
#ifdef A_THREAD_EACH
#include <barrier>
#include <thread>
#else
#include <functional>
#include <ucontext.h>
#endif
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

Index blockDim, gridDim;

namespace emulator {
unsigned char* shared_memory;

struct Copy { void* to; const void* from; int bytes; };
// What each thread of a block has for itself.
struct Own : Place {
  int turn = 0;
  std::vector<Copy> open_copies;
  std::vector<std::vector<Copy>> groups;
};
static Own& own() { return static_cast<Own&>(*place); }

#ifdef A_THREAD_EACH
using Barrier = std::barrier<>;
constinit thread_local Place* place;

// Call `work(n)` for n < count, each in a thread.
template <class Work> void run_together(unsigned count, Work work) {
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < count; ++n)
    threads.emplace_back([=] {
      Own own_of_thread;
      place = &own_of_thread;
      work(n);
    });
  for (auto& thread : threads) thread.join();
}
#else
struct Fiber : Own {
  static constexpr size_t STACK = 1 << 20;
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[STACK]};  // not initialized: pages are there once used
  std::function<void()> work;
  const unsigned* round = nullptr;  // of the barrier where it waits until `round` is no longer `seen`
  unsigned seen;
  bool done = false;
};
Place* place;
static ucontext_t between_turns;
static Fiber& running() { return static_cast<Fiber&>(own()); }

struct Barrier {
  unsigned members, arrived = 0, round = 0;
  explicit Barrier(int members) : members(members) {}
  void arrive_and_wait() {
    if (++arrived == members) {
      arrived = 0;
      ++round;
    } else {
      running().round = &round;
      running().seen = round;
      swapcontext(&running().context, &between_turns);
    }
  }
};

static void begin() {
  running().work();
  running().done = true;
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
      Fiber& fiber = fibers[up ? n : count - 1 - n];
      if (fiber.done || (fiber.round && *fiber.round == fiber.seen)) continue;
      fiber.round = nullptr;
      place = &fiber;
      stuck = false;
      swapcontext(&between_turns, &fiber.context);
      left -= fiber.done;
    }
    if (stuck) {
      fprintf(stderr, "threads wait at a barrier for others that have ended or wait at another\n");
      abort();
    }
  }
}
#endif

// What the lanes of a warp show each other, in turn in one half and the other: a lane that is ahead
// writes where the others have finished reading.
struct Warp {
  Barrier barrier;
  unsigned long long shown[2][32][4];
  explicit Warp(int lanes) : barrier(lanes) {}
};
struct Block {
  Barrier barrier;
  std::vector<std::unique_ptr<Warp>> warps;
  std::vector<int> votes;
  std::vector<unsigned char> shared;
  Block(int threads, size_t bytes) : barrier(threads), votes(threads), shared(bytes) {
    for (int first = 0; first < threads; first += 32)
      warps.push_back(std::make_unique<Warp>(std::min(32, threads - first)));
  }
};
static Block* current_block;
static Warp& current_warp() { return *current_block->warps[thread_number() / 32]; }

void copy_later(void* to, const void* from, int bytes) {
  if ((size_t)to % bytes || (size_t)from % bytes) {
    fprintf(stderr, "a copy of %d bytes from or to a misaligned address\n", bytes);
    abort();
  }
  own().open_copies.push_back({to, from, bytes});
}
void make_copies(int left) {
  auto& groups = own().groups;
  while ((int)groups.size() > left) {
    for (auto& copy : groups.front()) std::memcpy(copy.to, copy.from, copy.bytes);
    groups.erase(groups.begin());
  }
}
}  // namespace emulator

using emulator::current_block, emulator::current_warp, emulator::own;

void commit_copies() { own().groups.push_back(std::exchange(own().open_copies, {})); }
void __syncthreads() { current_block->barrier.arrive_and_wait(); }
void __syncwarp() { current_warp().barrier.arrive_and_wait(); }
int __syncthreads_or(int vote) {
  current_block->votes[thread_number()] = vote;
  current_block->barrier.arrive_and_wait();
  int any = 0;
  for (int v : current_block->votes) any |= v;
  current_block->barrier.arrive_and_wait();
  return any;
}

const unsigned long long (*shown_by_all(std::initializer_list<unsigned long long> mine))[4] {
  auto& warp = current_warp();
  auto& half = warp.shown[own().turn ^= 1];
  std::copy(mine.begin(), mine.end(), half[thread_number() % 32]);
  warp.barrier.arrive_and_wait();
  return half;
}

void launch(unsigned grid, unsigned bx, unsigned by, size_t bytes, void (*kernel)(void**), void** a) {
  gridDim = {grid, 1, 1};
  blockDim = {bx, by, 1};
  emulator::Block block(bx * by, bytes);
  current_block = &block;
  emulator::shared_memory = block.shared.data();
  emulator::run_together(bx * by, [=, &block](unsigned n) {
    threadIdx = {n % bx, n / bx, 0};
    for (unsigned b = 0; b < grid; ++b) {
      blockIdx = {b, 0, 0};
      kernel(a);
      emulator::make_copies(0);
      block.barrier.arrive_and_wait();  // shared memory passes to the next block
    }
  });
}
