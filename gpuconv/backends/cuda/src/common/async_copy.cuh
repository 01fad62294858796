// Asynchronous copies from global to shared memory: a thread starts them and waits for them later.
// From sm_80 on they bypass the registers (cp.async); on older chips they are plain copies. The tests'
// emulator defines the three functions itself.
#pragma once

#ifdef __CUDA_ARCH__
// BYTES is 4, 8 or 16, and both addresses are multiples of it.
template <int BYTES> __device__ inline void copy_async(void* to, const void* from) {
#if __CUDA_ARCH__ >= 800
  unsigned target = (unsigned)__cvta_generic_to_shared(to);
  if (BYTES == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(from) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(target), "l"(from), "n"(BYTES)
                 : "memory");
#else
  if (BYTES == 16) *(uint4*)to = *(const uint4*)from;
  else if (BYTES == 8) *(uint2*)to = *(const uint2*)from;
  else *(unsigned*)to = *(const unsigned*)from;
#endif
}

// Closes a group: all copies that this thread has started since the last call.
__device__ inline void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most LEFT of this thread's groups are unfinished. It says nothing about other
// threads: a __syncthreads() has to follow before their copies are read.
template <int LEFT> __device__ inline void await_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}
#endif
