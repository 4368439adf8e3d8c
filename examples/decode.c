/* A .flic image to a PPM: decode CODEC.safetensors IN.flic OUT.ppm (docs/libflic.md). */
#include <flic.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned char data[1 << 24];

int main(int count, char** files) {
  flic_codec* codec;
  flic_header header;
  flic_error error;
  FILE* in = count == 4 ? fopen(files[2], "rb") : NULL;
  size_t size = in ? fread(data, 1, sizeof data, in) : 0;
  if (flic_codec_open_file(files[1], &codec, &error)) return puts(error.message), 1;
  if (flic_read_header(data, size, &header, &error)) return puts(error.message), 1;
  unsigned char* rgb = calloc((size_t)header.width * header.height, 3);
  if (flic_decode(codec, data, size, NULL, rgb, 3 * (size_t)header.width, &error)) return puts(error.message), 1;
  FILE* out = fopen(files[3], "wb");
  fprintf(out, "P6\n%u %u\n255\n", header.width, header.height);
  fwrite(rgb, 3 * (size_t)header.width, header.height, out);
  flic_codec_close(codec);
  return fclose(out) != 0;
}
