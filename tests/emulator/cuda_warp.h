// The functions of backends/cuda/src/tensor/mma.cuh, and of others below, for an ordinary compiler.
// A lane shows the others of its warp what it holds, and each makes its own part of the result of
// that.
#pragma once
template <int N> void load_matrices(unsigned (&to)[N], const void* row) {
  if ((size_t)row % 16) abort();
  auto rows = shown_by_all({(unsigned long long)row});
  int lane = thread_number() % 32;
  for (int n = 0; n < N; ++n)
    to[n] = reinterpret_cast<const unsigned*>(rows[8 * n + lane / 4][0])[lane % 4];
}

inline unsigned to_tf32(unsigned bits) {
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & ~0x1fffu;
}

// The element of a register that holds `count` of them.
inline double element(Half, unsigned bits, int n) { return half_to_float(bits >> 16 * n & 0xffff); }
inline double element(Bfloat, unsigned bits, int n) { return __uint_as_float(bits >> 16 * n << 16); }
inline double element(float, unsigned bits, int) { return __uint_as_float(bits & ~0x1fffu); }

// A sum as the oldest tensor cores make it: exact products, all addends cut off towards zero at the
// last bit of the largest, and so is the result. Later chips keep some bits more.
inline float cut_sum(const double* addends, int count) {
  double largest = 0, sum = 0;
  for (int n = 0; n < count; ++n) {
    if (!std::isfinite(addends[n])) {
      for (int m = 0; m < count; ++m) sum += addends[m];
      return (float)sum;
    }
    largest = fmax(largest, fabs(addends[n]));
  }
  int exponent;
  std::frexp(largest, &exponent);
  double last = std::ldexp(1.0, exponent < -125 ? -149 : exponent - 24);
  for (int n = 0; n < count; ++n) sum += std::trunc(addends[n] / last) * last;
  float near = (float)sum;
  if (std::isinf(near)) return near;
  return fabs((double)near) > fabs(sum) ? std::nextafter(near, 0.f) : near;
}

template <class T>
void product(float (&c)[4], const unsigned* a, const unsigned* b, int registers) {
  constexpr int per = 4 / sizeof(T);
  auto word = [](unsigned low, unsigned high) { return (unsigned long long)high << 32 | low; };
  bool both = registers == 2;
  auto all = shown_by_all({word(a[0], a[1]), both ? word(a[2], a[3]) : 0,
                           word(b[0], both ? b[1] : 0)});
  int lane = thread_number() % 32;
  for (int n = 0; n < 4; ++n) {
    int row = lane / 4, column = lane % 4 * 2 + n % 2, count = 0;
    double addends[17] = {};
    for (int r = 0; r < registers; ++r)
      for (int t = 0; t < 4; ++t)
        for (int m = 0; m < per; ++m) {
          auto pixels = (unsigned)(all[row * 4 + t][r] >> 32 * (n / 2));
          auto taps = (unsigned)(all[column * 4 + t][2] >> 32 * r);
          addends[count++] = element(T(), pixels, m) * element(T(), taps, m);
        }
    addends[count++] = c[n];
    c[n] = cut_sum(addends, count);
  }
}

template <class T>
void multiply(T, float (&c)[4], const unsigned (&a)[4], unsigned u, unsigned v) {
  const unsigned b[2] = {u, v};
  product<T>(c, a, b, 2);
}
template <class T> void multiply(T, float (&c)[4], const unsigned (&a)[2], unsigned u) {
  product<T>(c, a, &u, 1);
}

inline int opaque(int value) { return value; }

// The function of backends/cuda/src/fft/fft_block.cuh.
template <class T> T lane_across(T mine, int bits) {
  unsigned long long word = 0;
  std::memcpy(&word, &mine, sizeof mine);
  auto all = shown_by_all({word});
  std::memcpy(&mine, all[thread_number() % 32 ^ bits], sizeof mine);
  return mine;
}
#define __constant__
