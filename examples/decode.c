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
  if (!in) return puts("usage: decode CODEC.safetensors IN.flic OUT.ppm"), 2;
  size_t size = fread(data, 1, sizeof data, in);
  if (flic_codec_open_file(files[1], &codec, &error)) return puts(error.message), 1;
  if (flic_read_header(data, size, &header, &error)) return puts(error.message), 1;
  size_t stride = 3 * (size_t)header.width, room = stride * header.height;
  unsigned char* rgb = malloc(room);
  if (flic_decode(codec, data, size, NULL, rgb, room, stride, &error)) return puts(error.message), 1;
  FILE* out = fopen(files[3], "wb");
  if (!out || fprintf(out, "P6\n%u %u\n255\n", header.width, header.height) < 0) return perror(files[3]), 1;
  fwrite(rgb, stride, header.height, out);
  flic_codec_close(codec);
  return fclose(out) != 0;
}
