/* What libflic takes of an allocator, and beside it:
 *
 *   allocator use CODEC.safetensors WIDTH HEIGHT THREADS
 *   allocator fail CODEC.safetensors WIDTH HEIGHT THREADS MOST
 *
 * use: opens, encodes, decodes, previews and decodes a region with one, and with another one per call. fail: the same
 * with an allocation that fails, up to MOST of them of each call. Both print numbers in JSON, or abort. */
#include <flic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(int good, const char* what) {
  if (good) return;
  fprintf(stderr, "allocator: %s\n", what);
  abort();
}

/* ---- what is taken elsewhere, where glibc lets a program put itself in between */

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <malloc.h>
#define INTERPOSED 1
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);
static int watching;
static long outside, outside_count; /* all bytes that were taken, given back or not, and how often */

static void* seen(void* block) {
  if (block != NULL && __atomic_load_n(&watching, __ATOMIC_RELAXED)) {
    __atomic_add_fetch(&outside, (long)malloc_usable_size(block), __ATOMIC_RELAXED);
    __atomic_add_fetch(&outside_count, 1, __ATOMIC_RELAXED);
  }
  return block;
}
void* malloc(size_t size) { return seen(__libc_malloc(size)); }
void* calloc(size_t count, size_t size) { return seen(__libc_calloc(count, size)); }
void* realloc(void* block, size_t size) { return seen(__libc_realloc(block, size)); }
void* memalign(size_t alignment, size_t size) { return seen(__libc_memalign(alignment, size)); }
void* aligned_alloc(size_t alignment, size_t size) { return seen(__libc_memalign(alignment, size)); }
int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = seen(__libc_memalign(alignment, size));
  return *block == NULL ? 12 : 0;
}
void free(void* block) { __libc_free(block); }
#define OWN_TAKE __libc_memalign
#define OWN_FREE __libc_free
static void watch(int on) { __atomic_store_n(&watching, on, __ATOMIC_RELAXED); }
#else
#define INTERPOSED 0
static long outside, outside_count;
#define OWN_TAKE aligned_alloc
#define OWN_FREE free
static void watch(int on) { (void)on; }
#endif

/* ---- an allocator that counts, fills what it gives and what it gets back, and fails where it is told to */

typedef struct Counter {
  long live, peak, blocks, count, fail_at;
  int fails_on, failed;
} Counter;

static const size_t kMark = 64;

static void* take(void* user, size_t size, size_t alignment) {
  Counter* own = user;
  require(alignment >= 8 && alignment <= 64 && (alignment & (alignment - 1)) == 0, "an alignment that is none");
  require(size > 0 && size % alignment == 0, "a size that is no multiple of the alignment");
  const long number = __atomic_add_fetch(&own->count, 1, __ATOMIC_RELAXED);
  if (own->fail_at != 0 && (number == own->fail_at || (own->fails_on && number > own->fail_at))) {
    __atomic_store_n(&own->failed, 1, __ATOMIC_RELAXED);
    return NULL;
  }
  unsigned char* block = OWN_TAKE(kMark, size + kMark);
  require(block != NULL, "no memory for the test itself");
  memcpy(block, &size, sizeof size);
  memcpy(block + sizeof size, &own, sizeof own);
  memset(block + kMark, 0xA5, size);
  const long now = __atomic_add_fetch(&own->live, (long)size, __ATOMIC_RELAXED);
  __atomic_add_fetch(&own->blocks, 1, __ATOMIC_RELAXED);
  long peak = __atomic_load_n(&own->peak, __ATOMIC_RELAXED);
  while (now > peak && !__atomic_compare_exchange_n(&own->peak, &peak, now, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return block + kMark;
}

static void give_back(void* user, void* given, size_t size) {
  Counter *own = user, *its;
  unsigned char* block = (unsigned char*)given - kMark;
  size_t taken;
  memcpy(&taken, block, sizeof taken);
  memcpy(&its, block + sizeof taken, sizeof its);
  require(taken == size, "a block came back with another size");
  require(its == own, "a block came back to another allocator");
  memset(block, 0x5A, size + kMark);
  __atomic_sub_fetch(&own->live, (long)size, __ATOMIC_RELAXED);
  __atomic_sub_fetch(&own->blocks, 1, __ATOMIC_RELAXED);
  OWN_FREE(block);
}

static flic_allocator allocator_of(Counter* counter) {
  const flic_allocator own = {take, give_back, counter};
  return own;
}

/* ---- calls */

static const char* path;
static unsigned width, height, threads;
static unsigned char *file, *image, *pixels, *expected, *stream;
static size_t file_size, image_size, stream_size;
static unsigned previews;
static double quality;

enum Way { kOpen, kOpenFile, kDecode, kPreview, kRegion, kEncode, kWays };
static const char* const names[] = {"open", "open_file", "decode", "preview", "region", "encode"};

static flic_codec* opened(enum Way way, const flic_allocator* allocator, flic_status* status) {
  flic_open_options options = FLIC_OPEN_OPTIONS_INIT;
  flic_codec* codec = NULL;
  flic_error error;
  options.allocator = allocator;
  *status = way == kOpenFile ? flic_codec_open_file_with(path, &options, &codec, &error)
                             : flic_codec_open_memory_with(file, file_size, &options, &codec, &error);
  require((codec != NULL) == (*status == FLIC_OK), "a codec without FLIC_OK, or the other way round");
  if (*status != FLIC_OK && *status != FLIC_OUT_OF_MEMORY) fprintf(stderr, "%s\n", error.message);
  return codec;
}

/* One of the last four; `of`: of this call alone, or NULL. What encode gives is compared and freed. */
static flic_status called(enum Way way, const flic_codec* codec, const flic_allocator* of) {
  flic_options options = FLIC_OPTIONS_INIT;
  flic_region region = {width / 3, height / 4, width / 2, height / 2};
  flic_error error;
  flic_status status;
  options.threads = threads;
  options.allocator = of;
  if (way == kEncode) {
    unsigned char* out = NULL;
    size_t size = 0;
    const flic_metadata metadata = {{image, 1000}, {NULL, 0}, {NULL, 0}};
    options.metadata = &metadata;
    options.format = FLIC_RGBA; /* three quarters of the width: any bytes will do */
    status = flic_encode(codec, image, width * 3 / 4, height, 3 * (size_t)width, quality, &options, &out, &size, &error);
    require((out != NULL) == (status == FLIC_OK), "bytes without FLIC_OK, or the other way round");
    flic_free(out);
  } else {
    if (way == kPreview) options.parts = previews > 1 ? 1 : 0;
    if (way == kRegion) options.region = &region;
    const size_t stride = 3 * (size_t)(way == kRegion ? region.width : width);
    memset(pixels, 0, image_size);
    status = flic_decode(codec, stream, stream_size, &options, pixels, image_size, stride, &error);
    if (status == FLIC_OK && way == kDecode) require(memcmp(pixels, expected, image_size) == 0, "other pixels");
    if (status == FLIC_OK && way == kRegion) {
      for (unsigned row = 0; row < region.height; ++row)
        require(memcmp(pixels + row * stride,
                       expected + 3 * ((size_t)(region.top + row) * width + region.left), stride) == 0,
                "other pixels of a region");
    }
  }
  if (status != FLIC_OK && status != FLIC_OUT_OF_MEMORY) fprintf(stderr, "%s\n", error.message);
  return status;
}

/* The file, an image, its stream and pixels, all by the default. */
static void prepare(void) {
  FILE* in = fopen(path, "rb");
  flic_status status;
  flic_codec_info info;
  flic_options options = FLIC_OPTIONS_INIT;
  require(in != NULL, "no such codec file");
  file = malloc((size_t)1 << 28);
  file_size = fread(file, 1, (size_t)1 << 28, in);
  fclose(in);
  image_size = 3 * (size_t)width * height;
  image = malloc(image_size);
  pixels = malloc(image_size);
  expected = malloc(image_size);
  for (unsigned y = 0; y < height; ++y)
    for (unsigned x = 0; x < 3 * width; ++x)
      image[y * 3 * (size_t)width + x] = (unsigned char)(x / 3 + y / 2 + (x / 50 + y / 30) % 2 * 90 + x * y % 13);
  flic_codec* codec = opened(kOpen, NULL, &status);
  require(codec != NULL, "the codec does not open");
  require(flic_codec_get_info(codec, &info, NULL) == FLIC_OK, "no info");
  previews = info.previews;
  quality = info.qualities < 4 ? info.qualities : 4;
  options.threads = threads;
  require(flic_encode(codec, image, width, height, 3 * (size_t)width, quality, &options, &stream, &stream_size, NULL) ==
              FLIC_OK, "the image does not encode");
  require(flic_decode(codec, stream, stream_size, &options, expected, image_size, 3 * (size_t)width, NULL) == FLIC_OK,
          "the stream does not decode");
  flic_codec_close(codec);
}

/* ---- use */

typedef struct Shared {
  const flic_codec* codec;
} Shared;

static void* calls(void* user) {
  const Shared* own = user;
  for (enum Way way = kDecode; way < kWays; ++way) require(called(way, own->codec, NULL) == FLIC_OK, names[way]);
  return NULL;
}

static void use(void) {
  Counter counter = {0}, other = {0};
  const flic_allocator allocator = allocator_of(&counter), per_call = allocator_of(&other);
  flic_status status;
  flic_header header;
  flic_metadata metadata;
  printf("{\"outside\": %s", INTERPOSED ? "true" : "false");
  for (enum Way way = kOpen; way < kWays; ++way) {
    Counter own = {0};
    const flic_allocator only = allocator_of(&own);
    flic_codec* codec = NULL;
    outside = outside_count = 0;
    long base = 0, count = 0;
    if (way <= kOpenFile) {
      watch(1);
      codec = opened(way, &only, &status);
      watch(0);
    } else {
      codec = opened(kOpen, &only, &status);
      base = own.peak = own.live;
      count = own.count;
      watch(1);
      status = called(way, codec, NULL);
      watch(0);
      require(own.live == base, "a call left memory behind");
    }
    require(status == FLIC_OK, names[way]);
    printf(", \"%s\": {\"taken\": %ld, \"blocks\": %ld, \"outside\": %ld, \"outside_blocks\": %ld}", names[way],
           own.peak - base, own.count - count, outside, outside_count);
    flic_codec_close(codec);
    require(own.live == 0 && own.blocks == 0, "a codec left memory behind");
  }
  outside = outside_count = 0;
  watch(1);
  require(flic_read_header(stream, stream_size, &header, NULL) == FLIC_OK, "no header");
  require(flic_read_metadata(stream, stream_size, &metadata, NULL) == FLIC_OK, "no metadata");
  watch(0);
  printf(", \"header\": {\"outside_blocks\": %ld}", outside_count);

  /* One allocator beside the other, threads that share a codec, and bytes that stay longer than it. */
  flic_codec* codec = opened(kOpenFile, &allocator, &status);
  require(codec != NULL, "it does not open");
  const long base = counter.live;
  Shared shared = {codec};
  pthread_t thread;
  require(pthread_create(&thread, NULL, calls, &shared) == 0, "no thread");
  pthread_join(thread, NULL);
  require(counter.live == base, "a thread left memory behind");
  const long count = counter.count;
  for (enum Way way = kDecode; way < kWays; ++way) {
    require(called(way, codec, &per_call) == FLIC_OK, names[way]);
    require(other.live == 0, "a call left memory of its own behind");
  }
  require(counter.count == count && other.count > 0, "a call took memory of the codec's in place of its own");
  require(flic_memory_needed(codec, 4000, 3000, 4, 1) > 0, "no estimate");
  require(flic_codec_reads(codec, &header) == 1, "another codec");
  require(counter.live == base, "an estimate left memory behind");
  unsigned char* kept = NULL;
  size_t kept_size = 0;
  require(flic_encode(codec, image, width, height, 3 * (size_t)width, quality, NULL, &kept, &kept_size, NULL) == FLIC_OK,
          "encode");
  flic_codec_close(codec);
  require(counter.blocks == 1, "more than the stream is left");
  require(kept_size == stream_size && memcmp(kept, stream, stream_size) == 0, "other bytes");
  flic_free(kept);
  require(counter.live == 0 && counter.blocks == 0, "the stream is left behind");
  printf("}\n");
}

/* ---- fail */

static unsigned long long random_state = 1;
static long drawn(long below) {
  random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
  return (long)((random_state >> 33) % (unsigned long long)below);
}

/* Which of `count` fail: the first and the last ones, and others. */
static long chosen(long index, long most, long count) {
  if (most >= count) return index + 1;
  if (index < most / 4) return index + 1;
  if (index < most / 2) return count - (index - most / 4);
  return 1 + drawn(count);
}

static void fail(long most) {
  long failures = 0, ran_through = 0;
  for (enum Way way = kOpen; way < kWays; ++way) {
    Counter counter = {0};
    const flic_allocator allocator = allocator_of(&counter);
    flic_status status;
    flic_codec* codec = opened(way <= kOpenFile ? way : kOpen, &allocator, &status);
    require(status == FLIC_OK, "it does not open");
    long count = counter.count;
    if (way > kOpenFile) {
      counter.count = 0;
      require(called(way, codec, NULL) == FLIC_OK, names[way]);
      count = counter.count;
    } else {
      flic_codec_close(codec);
      codec = NULL;
    }
    const long base = counter.live;
    for (long i = 0; i < (most < count ? most : count); ++i) {
      for (counter.fails_on = 0; counter.fails_on < 2; ++counter.fails_on) {
        counter.count = 0;
        counter.failed = 0;
        counter.fail_at = chosen(i, most, count);
        if (way <= kOpenFile) {
          flic_codec_close(opened(way, &allocator, &status));
        } else {
          status = called(way, codec, NULL);
        }
        counter.fail_at = 0;
        /* With several threads the number of allocations may be another one each time. */
        require(counter.failed || threads > 1 || way <= kOpenFile, "nothing failed");
        /* Where it was that of a thread's handle, the call did without the thread. */
        if (status == FLIC_OK) {
          ++ran_through;
        } else {
          require(counter.failed, "a failure without one");
          require(status == FLIC_OUT_OF_MEMORY, "another status than FLIC_OUT_OF_MEMORY");
          ++failures;
        }
        require(counter.live == base, "a call that failed left memory behind");
        if (way > kOpenFile && i % 8 == 0) {
          require(called(kDecode, codec, NULL) == FLIC_OK, "the codec is of no use after a failure");
          require(counter.live == base, "a call after one that failed left memory behind");
        }
      }
    }
    flic_codec_close(codec);
    require(counter.live == 0 && counter.blocks == 0, "a codec left memory behind");
  }
  printf("{\"failures\": %ld, \"ran_through\": %ld}\n", failures, ran_through);
}

int main(int count, char** arguments) {
  require(count >= 6, "use|fail CODEC WIDTH HEIGHT THREADS [MOST]");
  path = arguments[2];
  width = (unsigned)atoi(arguments[3]);
  height = (unsigned)atoi(arguments[4]);
  threads = (unsigned)atoi(arguments[5]);
  prepare();
  if (strcmp(arguments[1], "use") == 0) use();
  if (strcmp(arguments[1], "fail") == 0) fail(count > 6 ? atol(arguments[6]) : 100);
  flic_free(stream);
  free(file);
  free(image);
  free(pixels);
  free(expected);
  return 0;
}
