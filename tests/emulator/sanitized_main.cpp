// The main function of a kernel's program for a sanitizer, which cannot be loaded into a running
// Python: the arguments come from one file, what pointers point at in their place, and what they point
// at afterwards is the output. Every array is an allocation of its own, so that the address sanitizer
// sees its ends.
#include <cstdio>
#include <cstdlib>
#include <vector>

extern "C" void run(unsigned grid, unsigned bx, unsigned by, size_t bytes, void** a);

static std::vector<char> part(FILE* f) {
  long long n;
  if (fread(&n, 8, 1, f) != 1) exit(3);
  std::vector<char> v(n);
  if (n && fread(v.data(), 1, n, f) != (size_t)n) exit(3);
  return v;
}

int main(int, char** name) {
  FILE* f = fopen(name[1], "rb");
  auto head = part(f);
  long long* h = (long long*)head.data();
  size_t count = h[4];
  std::vector<std::vector<char>> blobs(count);
  std::vector<char*> pointers(count);
  std::vector<void*> a(count);
  for (size_t n = 0; n < count; ++n) {
    blobs[n] = part(f);
    pointers[n] = blobs[n].data();
    a[n] = h[5 + n] ? (void*)&pointers[n] : (void*)pointers[n];
  }
  run(h[0], h[1], h[2], h[3], a.data());
  FILE* o = fopen(name[2], "wb");
  for (size_t n = 0; n < count; ++n)
    if (h[5 + n]) fwrite(blobs[n].data(), 1, blobs[n].size(), o);
  fclose(o);
}
