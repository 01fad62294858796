// Means over the pixels that are not missing; NaN is missing. A panel first holds pixels, with 0 in place
// of missing ones, and then their counts, 1 or 0. Both are summed by the same code; the counts only if a
// pixel of the panel is missing.
//
// So that means are exact where pixels are large compared to their differences, the pixel nearest to zero
// (the pivot) is subtracted from all pixels of the panel if they have one sign, and added to the means.
// The mean of equal pixels is the pixel itself.
#pragma once

static_assert(RAW && sizeof(Pixel) == sizeof(ACC), "a missing pixel is NaN in the panel, too");
// Threads that compare the extremes of all threads.
enum { COMPARING = LANES, FOUND_EACH = THREADS / COMPARING };
struct Extremes { Pixel least, greatest; };
typedef unsigned char Present;  // which pixels of a cell are not missing, a bit each
struct Found {
  Pixel pivot;
  bool missing;  // whether a pixel of the panel is
};

__device__ inline float lesser(float a, float b) { return fminf(a, b); }
__device__ inline double lesser(double a, double b) { return fmin(a, b); }
__device__ inline float greater(float a, float b) { return fmaxf(a, b); }
__device__ inline double greater(double a, double b) { return fmax(a, b); }
__device__ inline void include(Extremes& found, Extremes other) {
  found.least = lesser(found.least, other.least);  // of a number and NaN it is the number
  found.greatest = greater(found.greatest, other.greatest);
}

// Calls `function` with the numbers of this thread's cells of a panel, if they have been loaded.
template <class Function>
__device__ inline void for_each_cell(PanelSize loaded, int cells, const Function& function) {
  if (loaded.cells == cells) {  // they follow one another in memory
#pragma unroll 4
    for (int cell = thread(); cell < loaded.rows * cells; cell += THREADS) function(cell);
  } else {
    for (PanelWalk walk(loaded.rows, loaded.cells); walk.more(); walk.next())
      function(walk.row * cells + walk.column);
  }
}

// Subtracts the pivot from a panel that `load_panel` has loaded with these arguments, and replaces missing
// pixels by 0. All threads of the block call it, and may read the panel when it returns.
__device__ inline Found prepare_pixels(const Geometry& g, const OutputTile& at, int rows, int cells,
                                       int reach, Pixel* panel, Present* present, Extremes* extremes) {
  const Pixel infinity = (Pixel)__uint_as_float(0x7f800000u);
  PanelSize loaded = loaded_part(g, at, rows, cells, reach);
  Extremes mine = {infinity, -infinity};
  bool absent = false;
  for_each_cell(loaded, cells, [&](int cell) {
    Cell pixels = ((const Cell*)panel)[cell];
#pragma unroll
    for (int e = 0; e < CELL; ++e) {
      include(mine, {pixels.at[e], pixels.at[e]});
      absent = absent || pixels.at[e] != pixels.at[e];
    }
  });
  extremes[thread()] = mine;
  Found found = {0, __syncthreads_or(absent) != 0};
  if (thread() < COMPARING) {
#pragma unroll
    for (int n = 1; n < FOUND_EACH; ++n) include(mine, extremes[thread() + n * COMPARING]);
    extremes[thread()] = mine;
  }
  __syncthreads();
  Extremes all = extremes[0];
#pragma unroll
  for (int n = 1; n < COMPARING; ++n) include(all, extremes[n]);
  if (0 < all.least && all.least < infinity) found.pivot = all.least;
  else if (-infinity < all.greatest && all.greatest < 0) found.pivot = all.greatest;
  if (found.pivot == 0 && !found.missing) return found;
  for_each_cell(loaded, cells, [&](int cell) {
    Cell pixels = ((const Cell*)panel)[cell];
    unsigned bits = 0;
#pragma unroll
    for (int e = 0; e < CELL; ++e) {
      bool there = pixels.at[e] == pixels.at[e];
      pixels.at[e] = there ? pixels.at[e] - found.pivot : 0;
      bits |= (unsigned)there << e;
    }
    ((Cell*)panel)[cell] = pixels;
    present[cell] = (Present)bits;
  });
  __syncthreads();
  return found;
}

// Replaces the pixels of a panel by their counts, once all threads have read the pixels.
__device__ inline void prepare_counts(const Geometry& g, const OutputTile& at, int rows, int cells,
                                      int reach, Pixel* panel, const Present* present) {
  PanelSize loaded = loaded_part(g, at, rows, cells, reach);
  for_each_cell(loaded, cells, [&](int cell) {
    unsigned bits = present[cell];
    Cell counts;
#pragma unroll
    for (int e = 0; e < CELL; ++e) counts.at[e] = bits >> e & 1 ? 1 : 0;
    ((Cell*)panel)[cell] = counts;
  });
  __syncthreads();
}

__device__ inline ACC sum_of_taps(const ACC* taps, int count) {
  ACC sums[4] = {0, 0, 0, 0};
#pragma unroll 4
  for (int t = 0; t < count; ++t) sums[t % 4] += taps[t];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// A mean: undefined if all pixels are missing, or the weights of the others are below `g.least` in all.
__device__ inline ACC divide(const Geometry& g, ACC sum, ACC count, Pixel pivot) {
  bool enough = count != 0 && !(count < (ACC)g.least);
  return enough ? sum / count + pivot : (ACC)g.undefined;
}

template <int ROW>
__device__ inline void divide_all(const Geometry& g, ACC (&sums)[ROW][VECTOR], ACC count, Pixel pivot) {
#pragma unroll
  for (int o = 0; o < ROW; ++o)
#pragma unroll
    for (int c = 0; c < VECTOR; ++c) sums[o][c] = divide(g, sums[o][c], count, pivot);
}

// Computes means from a row of sums and their counts, in place of the counts.
__device__ inline void divide_row(const Geometry& g, const ACC (&sums)[VECTOR], ACC (&counts)[VECTOR],
                                  Pixel pivot) {
#pragma unroll
  for (int c = 0; c < VECTOR; ++c) counts[c] = divide(g, sums[c], counts[c], pivot);
}

template <int ROW>
__device__ inline void copy_all(const ACC (&from)[ROW][VECTOR], ACC (&to)[ROW][VECTOR]) {
#pragma unroll
  for (int o = 0; o < ROW; ++o)
#pragma unroll
    for (int c = 0; c < VECTOR; ++c) to[o][c] = from[o][c];
}

// Computes means from sums that `write_column` has put into rows of `pitch` elements, and their counts, in
// place of the counts.
template <int ROW>
__device__ inline void divide_written(const Geometry& g, const ACC* sums, int pitch,
                                      ACC (&counts)[ROW][VECTOR], Pixel pivot) {
#pragma unroll
  for (int o = 0; o < ROW; ++o) {
    ACC row[VECTOR];
    read_granule(sums + o * pitch, row);
    divide_row(g, row, counts[o], pivot);
  }
}
