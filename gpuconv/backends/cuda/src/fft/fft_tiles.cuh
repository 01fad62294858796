// What the fft_*.cu files share: the tiles of overlap-save, which lie one after the other in a
// chunk of working memory, and where each of them comes from and goes to.
//
// Tiles are numbered kernel by kernel, image by image, row by row. Where all kernels see the same
// images (`fan` above 1), a tile is gathered and transformed once for the kernels of the group, and
// the tiles of its results follow one another, a kernel each.
#pragma once

enum { SLAB = BLOCK_Y * ROWS, THREADS = BLOCK_X * BLOCK_Y };  // a block's rows of a tile

template <class A> struct RealOf { typedef A type; };
template <class R> struct RealOf<Complex<R>> { typedef R type; };
typedef RealOf<ACC>::type Real;
typedef Complex<Real> Bin;            // of a spectrum

constexpr bool FLOAT32 = sizeof(Real) == 4;
constexpr Real LEAST = FLOAT32 ? 0x1p-100 : 0x1p-900, MOST = 1 / LEAST;
constexpr Real WINDOW = FLOAT32 ? 0x1p30 : 0x1p300;  // of sizes that are squared by one factor
enum { SAFE = FLOAT32 ? 40 : 300, RANGE = FLOAT32 ? 100 : 900 };

__device__ inline void measure(Norm& norm, Real size, Real part, Real other) {
  if (size * norm.inverse > WINDOW) {
    Real inverse = 1 / fmin(fmax(size, LEAST), MOST);
    Real ratio = inverse / norm.inverse;
    norm.inverse = inverse;
    norm.squares *= ratio * ratio;
  }
  part *= norm.inverse, other *= norm.inverse;
  norm.squares += part * part + other * other;
  norm.most = size > norm.most ? size : norm.most;
}
__device__ inline void measure(Norm& norm, Real value) {
  measure(norm, fabs(value), value, 0);
}
__device__ inline void measure(Norm& norm, Complex<Real> value) {
  Real re = fabs(value.re), im = fabs(value.im);
  measure(norm, re > im ? re : im, re, im);
}

__device__ inline void join(Norm& a, const Norm& b) {
  Real inverse = a.inverse < b.inverse ? a.inverse : b.inverse;
  Real of_a = inverse / a.inverse, of_b = inverse / b.inverse;
  a = {inverse, a.squares * of_a * of_a + b.squares * of_b * of_b, a.most < b.most ? b.most : a.most};
}

__device__ inline int thread_of_block() { return threadIdx.y * BLOCK_X + threadIdx.x; }

// What the threads of a block have, joined in an order that is always the same; for all of them.
template <class T> __device__ inline T of_block(const T& mine) {
  static_assert((THREADS & (THREADS - 1)) == 0, "halves of halves");
  SHARED_MEMORY(T, shared);
  int thread = thread_of_block();
  __syncthreads();  // an earlier result may be on its way out
  shared[thread] = mine;
#pragma unroll 1
  for (int half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) join(shared[thread], shared[thread + half]);
  }
  __syncthreads();
  return shared[0];
}

// Whether this block is the last of so many to come here: it then sees what the others have written.
__device__ inline bool is_last(int* done, int blocks) {
  bool last = blocks == 1;
  __syncthreads();
  if (!last && thread_of_block() == 0) {
    __threadfence();
    last = atomicAdd(done, 1) == blocks - 1;
  }
  last = __syncthreads_or(last);
  if (last) __threadfence();
  return last;
}

struct alignas(16) Reals { Real at[16 / sizeof(Real)]; };

// All threads: of a slab's norm, and of the last slab that of the whole tile, which is then brought
// into the safe range. Only a tile that is not there already is read and written once more.
__device__ inline void conclude(const Overlap& g, const Norm& mine, i64 n, int slab, int slabs,
                                Norm* norms, Size* sizes, ACC* tile, int safe) {
  Norm all = of_block(mine);
  if (thread_of_block() == 0) norms[n * slabs + slab] = all;
  if (!is_last(&sizes[n].done, slabs)) return;
  all = {1 / LEAST, 0, 0};
  for (int k = thread_of_block(); k < slabs; k += THREADS) join(all, norms[n * slabs + k]);
  all = of_block(all);
  int exponent = 0, unit = -ilogb((double)all.inverse);
  double root = sqrt((double)all.squares);
  if (root > 0 && root < 0x1p1000) {  // neither NaN nor infinite
    exponent = ilogb(root) + unit;
    if (exponent >= -SAFE && exponent <= safe) exponent = 0;
    exponent = exponent < -RANGE ? -RANGE : exponent > RANGE ? RANGE : exponent;
  }
  if (thread_of_block() == 0) {
    double norm = ldexp(root, unit - exponent) * ldexp(1 / (double)all.inverse, -unit);
    sizes[n] = {norm, ldexp((double)all.most, -exponent), 0, exponent, 0};
  }
  if (!exponent) return;
  Real factor = ldexp((Real)1, -exponent);
  Reals* parts = (Reals*)tile;
  i64 count = (i64)g.ny * g.nx * sizeof(ACC) / sizeof(Reals);
#pragma unroll 4
  for (i64 k = thread_of_block(); k < count; k += THREADS) {
    Reals values = parts[k];
#pragma unroll
    for (Real& value : values.at) value *= factor;
    parts[k] = values;
  }
}

struct Spot {  // where a tile comes from and goes to
  const char* x;
  char* out;
  i64 kernel, i0, j0;                 // its kernel within the group, its first output
  int rows, columns;                  // of its outputs
};

__device__ inline i64 kernel_of(const Overlap& g, i64 n) {
  return g.fan > 1 ? (g.first + n) % g.fan : (g.first + n) / (g.images * g.tiles);
}

__device__ inline Spot spot_of(const Overlap& g, i64 n, const char* x, char* out) {
  i64 kernel = kernel_of(g, n);
  i64 within = g.fan > 1 ? (g.first + n) / g.fan : g.first + n - kernel * g.images * g.tiles;
  i64 image = (g.kernel0 + kernel) * g.images + within / g.tiles, tile = within % g.tiles;
  Spot at = {x, out, kernel, tile / g.tiles_x * g.kept_y, tile % g.tiles_x * g.kept_x};
  at.rows = g.r - at.i0 < g.kept_y ? (int)(g.r - at.i0) : g.kept_y;
  at.columns = g.s - at.j0 < g.kept_x ? (int)(g.s - at.j0) : g.kept_x;
  for (int d = g.leads - 1; d >= 0; --d) {
    i64 rest = image / g.lead[d], index = image - rest * g.lead[d];
    image = rest;
    at.x += index * g.x_lead[d];
    at.out += index * g.out_lead[d];
  }
  return at;
}
