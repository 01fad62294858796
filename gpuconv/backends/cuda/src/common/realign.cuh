// Sixteen bytes at any address, from the two aligned cells of 16 bytes that hold them.
#pragma once

struct alignas(16) Words { unsigned word[4]; };

// Returns the 16 bytes of two neighbouring cells from byte `byte` on.
__device__ inline Words realign(const Words& low, const Words& high, unsigned byte) {
  unsigned w[8];
  Words cell;
#pragma unroll
  for (int n = 0; n < 4; ++n) { w[n] = low.word[n]; w[n + 4] = high.word[n]; }
#pragma unroll
  for (int n = 0; n < 6; ++n) w[n] = byte & 8 ? w[n + 2] : w[n];
#pragma unroll
  for (int n = 0; n < 5; ++n) w[n] = byte & 4 ? w[n + 1] : w[n];
#pragma unroll
  for (int n = 0; n < 4; ++n)
    cell.word[n] = (unsigned)(((unsigned long long)w[n + 1] << 32 | w[n]) >> (byte & 3) * 8);
  return cell;
}
