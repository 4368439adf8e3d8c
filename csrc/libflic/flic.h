/* libflic: .flic images without Python. Decodes and encodes with the integers of a codec file; the pixels are those of
 * every other fastlic, bit for bit (docs/transforms.md), the bytes those of docs/format.md.
 *
 *     flic_error error;
 *     flic_codec* codec = NULL;
 *     flic_header header;
 *     if (flic_codec_open_file("jahp.safetensors", &codec, &error)) fail(error.message);
 *     if (flic_read_header(data, size, &header, &error)) fail(error.message);
 *     uint8_t* rgb = malloc((size_t)header.width * header.height * 3);
 *     if (flic_decode(codec, data, size, NULL, rgb, (size_t)header.width * header.height * 3, 3 * (size_t)header.width,
 *                     &error)) fail(error.message);
 *     flic_codec_close(codec);
 *
 * Every function that can fail returns a flic_status, FLIC_OK (0) or what went wrong, and says in words why in *error,
 * which may be NULL. Nothing is thrown, no state is global. A codec never changes: threads may share it. Calls of one
 * thread do not wait for those of another.
 *
 * Functions, numbers and the order of fields stay as they are within a major version. Structures that may grow begin
 * with their size, which the FLIC_..._INIT macros set: older programs go on with newer libraries. */
#ifndef FLIC_H
#define FLIC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define FLIC_API
#else
#define FLIC_API __attribute__((visibility("default")))
#endif

#define FLIC_VERSION_MAJOR 1
#define FLIC_VERSION_MINOR 4
#define FLIC_VERSION_PATCH 0

/* major * 10000 + minor * 100 + patch of the library that runs. */
FLIC_API uint32_t flic_version(void);

typedef enum flic_status {
  FLIC_OK = 0,
  FLIC_INVALID_ARGUMENT = 1, /* the caller's: a null pointer, a quality that there is not, too little room */
  FLIC_CORRUPT_STREAM = 2,   /* the bytes are no .flic data, or damaged */
  FLIC_CORRUPT_CODEC = 3,    /* the codec file is none, or damaged */
  FLIC_UNSUPPORTED = 4,      /* a newer format, or a codec file without integer transforms */
  FLIC_WRONG_CODEC = 5,      /* the stream was made with other weights */
  FLIC_LIMIT = 6,            /* more pixels or memory than the caller allows */
  FLIC_OUT_OF_MEMORY = 7,
  FLIC_IO = 8, /* a file cannot be read */
  FLIC_INTERNAL = 9,
  FLIC_STOPPED = 10 /* `progress` of the options said so */
} flic_status;

typedef struct flic_error {
  flic_status status;
  char message[256]; /* UTF-8, ends with 0 */
} flic_error;

/* ---- headers */

#define FLIC_FINGERPRINT_BYTES 8

typedef struct flic_header {
  uint32_t width, height;                      /* pixels */
  uint32_t version;                            /* of the format, 1 to 3 */
  uint32_t model;                              /* id, docs/format.md; flic_model_name has its name */
  double quality;                              /* 0: a codec of one rate */
  uint8_t fingerprint[FLIC_FINGERPRINT_BYTES]; /* of the codec that decodes it; in version 1 of its entropy integers */
  uint32_t sections;
  uint32_t framing_bytes; /* all before metadata and sections */
  uint32_t channels;      /* of the image: 1 grey, 2 grey and alpha, 3 red, green, blue, 4 with alpha */
} flic_header;

/* The first bytes of a file are enough, 41 of nearly all without metadata (docs/format.md); nothing is decoded. */
FLIC_API flic_status flic_read_header(const void* data, size_t size, flic_header* header, flic_error* error);

typedef struct flic_bytes {
  const void* data;
  size_t size; /* 0: there are none */
} flic_bytes;

/* Bytes that travel with an image and that no codec looks into. */
typedef struct flic_metadata {
  flic_bytes icc_profile; /* of the colours of the pixels */
  flic_bytes exif;        /* from its TIFF header on, "II*" or "MM" */
  flic_bytes xmp;
} flic_metadata;

/* Where they lie within `data`. The file's bytes up to the first section are enough. */
FLIC_API flic_status flic_read_metadata(const void* data, size_t size, flic_metadata* metadata, flic_error* error);

/* "jahp", "mlic++", ...; NULL for an id that this library does not know. */
FLIC_API const char* flic_model_name(uint32_t model);

/* ---- memory */

/* Since 1.3. Functions of a program that give the library its memory. `alignment` is a power of two, 64 at most, and
 * `size` a multiple of it, as aligned_alloc wants them; NULL: there is no memory, and the call ends with
 * FLIC_OUT_OF_MEMORY. `release` gets what `allocate` gave, with the same size. Threads of the library call both at
 * once, and release what others took. Neither may throw, nor leave by longjmp. */
typedef struct flic_allocator {
  void* (*allocate)(void* user, size_t size, size_t alignment);
  void (*release)(void* user, void* block, size_t size);
  void* user;
} flic_allocator;

/* ---- codecs: weights */

typedef struct flic_codec flic_codec;

/* A codec file of layout 4 or 5 (docs/format.md). The memory may be freed afterwards. Opening takes up to four threads
 * while it lasts, where there are any. */
FLIC_API flic_status flic_codec_open_memory(const void* data, size_t size, flic_codec** codec, flic_error* error);
FLIC_API flic_status flic_codec_open_file(const char* path, flic_codec** codec, flic_error* error);
/* Since 1.3. `allocator`: of the codec and of every call with it, copied: all that they hold comes from there, and has
 * gone back when flic_codec_close returns, but for what flic_encode gave. Elsewhere lie exceptions on the way to an
 * error, what the system takes for threads, for the first call of one among them, and, while flic_codec_open_file_with
 * lasts, for a FILE. NULL: operator new.
 * Since 1.4. `decode_only`: not 0 for a codec that decodes alone. It opens faster and is smaller: what encoding needs
 * beside is not made of the file, nor looked at. flic_encode says FLIC_INVALID_ARGUMENT. */
typedef struct flic_open_options {
  size_t struct_size;
  const flic_allocator* allocator;
  uint32_t decode_only;
  uint32_t reserved; /* 0 */
} flic_open_options;

#define FLIC_OPEN_OPTIONS_INIT {sizeof(flic_open_options), NULL, 0, 0}

/* Since 1.3. options: NULL for FLIC_OPEN_OPTIONS_INIT. */
FLIC_API flic_status flic_codec_open_memory_with(const void* data, size_t size, const flic_open_options* options,
                                                 flic_codec** codec, flic_error* error);
FLIC_API flic_status flic_codec_open_file_with(const char* path, const flic_open_options* options, flic_codec** codec,
                                               flic_error* error);
/* Codec files that this library was built with (FLIC_EMBED), for flic_codec_open_memory: the bytes of the one at
 * `index`, from 0, its size and its name, "jahp"; NULL behind the last. */
FLIC_API const void* flic_embedded(uint32_t index, const char** name, size_t* size);

/* NULL is allowed. */
FLIC_API void flic_codec_close(flic_codec* codec);

typedef struct flic_codec_info {
  const char *name, *family; /* as long as the codec is open */
  uint8_t fingerprint[FLIC_FINGERPRINT_BYTES];
  uint8_t entropy_fingerprint[FLIC_FINGERPRINT_BYTES]; /* as streams of version 1 name it */
  uint32_t qualities;                                  /* 1 to this, in steps of 1/16; 0: one rate, quality 0 */
  uint32_t previews; /* a stream decodes from its first 1 to this many parts; 0: whole only */
} flic_codec_info;

FLIC_API flic_status flic_codec_get_info(const flic_codec* codec, flic_codec_info* info, flic_error* error);

/* 1 if this codec decodes the stream that begins with this header, its own or a predecessor's; else 0. */
FLIC_API int flic_codec_reads(const flic_codec* codec, const flic_header* header);

/* ---- pixels */

typedef enum flic_format {
  FLIC_RGB = 0,       /* 3 bytes a pixel */
  FLIC_RGBA = 1,      /* 4; alpha is lossless, and 255 of images that have none */
  FLIC_GREY = 2,      /* 1: (19595 R + 38470 G + 7471 B + 32768) >> 16; an image encoded from it is a grey one */
  FLIC_GREY_ALPHA = 3 /* 2 */
} flic_format;

/* A part of an image, in pixels. */
typedef struct flic_region {
  uint32_t left, top, width, height;
} flic_region;

typedef struct flic_options {
  size_t struct_size;
  uint32_t format;     /* a flic_format */
  uint32_t threads;    /* 1 by default; 0: one per core */
  uint32_t parts;      /* preview: decode only so many parts of a stream (levels of mcquic, slices of mlic); 0: all */
  uint64_t max_pixels; /* width x height of an image; 0: 89478485 */
  uint64_t max_memory; /* bytes that a call may take beside the caller's, by flic_memory_needed; 0: any */
  const flic_metadata* metadata; /* encode: what to store; NULL: nothing */
  /* Since 1.1. Called a few times a second, about how much of the time is over, 0 to 1, by the thread that calls; a
   * short call calls it never. Any answer but 0 ends the call with FLIC_STOPPED. NULL: nobody asks. */
  int (*progress)(void* user, double share);
  void* user;
  /* Since 1.2. decode: this part alone, whose pixels are those that it has in the whole image. All latents are decoded,
   * but the transform runs over no more than the part and some rows and columns around it. NULL: the whole. */
  const flic_region* region;
  /* Since 1.3. Of this call alone, and of the bytes that flic_encode gives. NULL: that of the codec. */
  const flic_allocator* allocator;
} flic_options;

#define FLIC_OPTIONS_INIT {sizeof(flic_options), FLIC_RGB, 1, 0, 0, 0, NULL, NULL, NULL, NULL, NULL}

/* An upper estimate of the bytes that decoding (or, if `encode`, encoding) an image of that size takes with so many
 * threads, without the codec and the caller's pixels; 2^64 - 1 for no codec, or what it cannot do. Metadata take twice
 * their bytes beside it to encode, alpha up to 4 bytes a pixel and 100 kB; to decode, alpha takes 100 kB and 3 bytes
 * per column, of a region a byte per pixel of the image beside them. */
FLIC_API uint64_t flic_memory_needed(const flic_codec* codec, uint32_t width, uint32_t height, uint32_t threads,
                                     int encode);

/* Decodes into rows of header.width pixels, header.height of them, or of those of options.region, that begin `stride`
 * bytes apart in the `capacity` bytes at `pixels`. The stream's bytes must not change meanwhile. Limits are asked
 * before anything is reserved. On failure the pixels may be partly written. options: NULL for FLIC_OPTIONS_INIT. */
FLIC_API flic_status flic_decode(const flic_codec* codec, const void* data, size_t size, const flic_options* options,
                                 uint8_t* pixels, size_t capacity, size_t stride, flic_error* error);

/* Encodes to *data, *size bytes that flic_free frees, before the codec is closed or after. quality: as flic_codec_info
 * says. */
FLIC_API flic_status flic_encode(const flic_codec* codec, const uint8_t* pixels, uint32_t width, uint32_t height,
                                 size_t stride, double quality, const flic_options* options, uint8_t** data,
                                 size_t* size, flic_error* error);
FLIC_API void flic_free(void* data);

#ifdef __cplusplus
}
#endif

#endif
