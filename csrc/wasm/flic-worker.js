// The library in WebAssembly: what flic.js asks for, in a Web Worker of its own or in the caller's thread.
import createModule from "./flic.mjs";

/** The cache that weights stay in, by URL. */
const CACHE = "flic-weights";
// Bytes of flic.h's structures, and where their fields lie (32-bit pointers).
const ERROR = 260, HEADER = 48, INFO = 32, OPTIONS = 32;
const RGB = 0, RGBA = 1;
const INVALID_ARGUMENT = 1, WRONG_CODEC = 5, LIMIT = 6, OUT_OF_MEMORY = 7, IO = 8;

/** What the library refused, in its own words; `status` is flic.h's flic_status. */
export class FlicError extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.name = "FlicError";
    this.status = status;
  }
}

export class Library {
  /** @param {Record<string, string>} weights absolute URLs of codec files, by any name */
  static async open(weights) {
    return new Library(await createModule(), weights);
  }

  constructor(module, weights) {
    this.module = module;
    /** @type {Map<string, {url: string, opened?: Promise<number>}>} */
    this.codecs = new Map(Object.entries(weights).map(([name, url]) => [name, { url }]));
  }

  /** @param {Uint8Array} bytes the first of a .flic file; 128 suffice */
  async header(bytes) {
    return this.#scope((room) => this.#header(room, room.copy(bytes), bytes.length).fields);
  }

  /** What a codec is; fetches its weights. @param {string} [name] */
  async info(name) {
    const codec = await this.#codec(name);
    return this.#scope((room) => {
      const at = room.take(INFO);
      this.#check(room, (error) => this.module._flic_codec_get_info(codec, at, error));
      return {
        name: this.#text(this.#u32(at)), family: this.#text(this.#u32(at + 4)), fingerprint: this.#hex(at + 8, 8),
        qualities: this.#u32(at + 24), previews: this.#u32(at + 28),
      };
    });
  }

  /**
   * @param {Uint8Array} bytes a .flic file
   * @param {{parts?: number, maxPixels?: number}} [options]
   */
  async decode(bytes, options = {}) {
    const room = new Room(this.module);
    try {
      const data = room.copy(bytes);
      const { at, fields } = this.#header(room, data, bytes.length);
      const codec = await this.#codecFor(at, fields);
      // Only from here on: a stream whose header lies is refused before room is made for it.
      const limit = options.maxPixels ?? 89478485;
      if (fields.width * fields.height > limit) {
        throw new FlicError(`${fields.width} x ${fields.height} pixels are more than ${limit}`, LIMIT);
      }
      const stride = 4 * fields.width, pixels = room.take(stride * fields.height);
      const settings = this.#options(room, options.parts ?? 0, limit);
      this.#check(room, (error) =>
        this.module._flic_decode(codec, data, bytes.length, settings, pixels, stride * fields.height, stride, error));
      const all = this.module.HEAPU8.slice(pixels, pixels + stride * fields.height);
      return { data: new Uint8ClampedArray(all.buffer), width: fields.width, height: fields.height };
    } finally {
      room.free();
    }
  }

  /**
   * @param {{data: Uint8ClampedArray, width: number, height: number}} image RGBA; alpha is kept where it is not opaque
   * @param {number} quality 1 to the codec's `qualities`, in steps of 1/16; 0 for a codec of one rate
   * @param {{codec?: string}} [options] a name of `weights`; the first by default
   */
  async encode(image, quality, options = {}) {
    if (image.data.length !== 4 * image.width * image.height) {
      throw new FlicError("data must be 4 bytes for each of width x height pixels", INVALID_ARGUMENT);
    }
    const codec = await this.#codec(options.codec);
    return this.#scope((room) => {
      const opaque = isOpaque(image.data), channels = opaque ? 3 : 4;
      const pixels = room.copy(opaque ? withoutAlpha(image.data) : image.data), out = room.take(8), { module } = this;
      const settings = this.#options(room, 0, 0, opaque ? RGB : RGBA);
      this.#check(room, (error) => module._flic_encode(
        codec, pixels, image.width, image.height, channels * image.width, quality, settings, out, out + 4, error));
      const data = this.#u32(out), bytes = module.HEAPU8.slice(data, data + this.#u32(out + 4));
      module._flic_free(data);
      return bytes;
    });
  }

  /** A codec, the first by default, fetched and opened once. @param {string} [name] @returns {Promise<number>} */
  #codec(name = this.codecs.keys().next().value) {
    const entry = this.codecs.get(name);
    if (!entry) throw new FlicError(`no weights are named ${name}`, INVALID_ARGUMENT);
    entry.opened ??= this.#open(entry.url).catch(async (error) => {
      entry.opened = undefined; // so that the next call tries again, and not with what failed
      if ("caches" in globalThis) await caches.open(CACHE).then((cache) => cache.delete(entry.url)).catch(() => {});
      throw error;
    });
    return entry.opened;
  }

  /** @param {string} url */
  async #open(url) {
    const bytes = await fetchWeights(url);
    return this.#scope((room) => {
      const out = room.take(4), data = room.copy(bytes);
      this.#check(room, (error) => this.module._flic_codec_open_memory(data, bytes.length, out, error));
      return this.#u32(out);
    });
  }

  /** The codec that reads this stream, first of all one that is named as the stream's model. */
  async #codecFor(header, { model, fingerprint }) {
    const names = [...this.codecs.keys()].sort((a, b) => (b === model) - (a === model));
    for (const name of names) {
      const codec = await this.#codec(name);
      if (this.module._flic_codec_reads(codec, header)) return codec;
    }
    throw new FlicError(`no codec here reads this stream, which was made with ${fingerprint}`, WRONG_CODEC);
  }

  #header(room, data, size) {
    const at = room.take(HEADER), { module } = this;
    this.#check(room, (error) => module._flic_read_header(data, size, at, error));
    const model = module._flic_model_name(this.#u32(at + 12));
    return {
      at,
      fields: {
        width: this.#u32(at), height: this.#u32(at + 4), version: this.#u32(at + 8),
        model: model ? this.#text(model) : null, quality: this.#view().getFloat64(at + 16, true),
        fingerprint: this.#hex(at + 24, 8), sections: this.#u32(at + 32), framingBytes: this.#u32(at + 36),
        channels: this.#u32(at + 40),
      },
    };
  }

  #options(room, parts, maxPixels, format = RGBA) {
    const at = room.take(OPTIONS), view = this.#view();
    [OPTIONS, format, 1, parts].forEach((value, i) => view.setUint32(at + 4 * i, value, true));
    view.setBigUint64(at + 16, BigInt(maxPixels), true);
    view.setBigUint64(at + 24, 0n, true);
    return at;
  }

  #scope(work) {
    const room = new Room(this.module);
    try {
      return work(room);
    } finally {
      room.free();
    }
  }

  #check(room, call) {
    const error = room.take(ERROR), status = call(error);
    if (status !== 0) throw new FlicError(this.#text(error + 4), status);
  }

  #view() { return new DataView(this.module.HEAPU8.buffer); } // anew each time: memory grows
  #u32(at) { return this.#view().getUint32(at, true); }
  #text(at) {
    const bytes = this.module.HEAPU8;
    return new TextDecoder().decode(bytes.subarray(at, bytes.indexOf(0, at)));
  }
  #hex(at, count) {
    return Array.from(this.module.HEAPU8.subarray(at, at + count), (b) => b.toString(16).padStart(2, "0")).join("");
  }
}

/** @param {Uint8ClampedArray} rgba */
function isOpaque(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return false;
  return true;
}

/** @param {Uint8ClampedArray} rgba */
function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let i = 0, j = 0; i < rgba.length; i += 4, j += 3) {
    rgb[j] = rgba[i];
    rgb[j + 1] = rgba[i + 1];
    rgb[j + 2] = rgba[i + 2];
  }
  return rgb;
}

/** What one call has of the module's memory. */
class Room {
  constructor(module) {
    this.module = module;
    this.taken = [];
  }
  take(size) {
    const at = this.module._malloc(size) >>> 0;
    if (at === 0) throw new FlicError(`no ${size} bytes are left`, OUT_OF_MEMORY);
    this.taken.push(at);
    return at;
  }
  copy(bytes) {
    const at = this.take(Math.max(bytes.length, 1));
    this.module.HEAPU8.set(bytes, at);
    return at;
  }
  free() {
    for (const at of this.taken) this.module._free(at);
  }
}

/** From the cache, or from the net and into the cache. A URL's weights never change. @param {string} url */
async function fetchWeights(url) {
  const cache = "caches" in globalThis ? await caches.open(CACHE).catch(() => null) : null;
  let response = await cache?.match(url);
  if (!response) {
    response = await fetch(url);
    if (!response.ok) throw new FlicError(`${url}: ${response.status} ${response.statusText}`, IO);
    await cache?.put(url, response.clone()).catch(() => {}); // no room is no fault
  }
  return new Uint8Array(await response.arrayBuffer());
}

// As a worker: {id, method, args} is answered by {id, result} or {id, error}.
if ("WorkerGlobalScope" in globalThis && globalThis.name === "flic") {
  /** @type {Promise<Library>} */
  let library;
  globalThis.onmessage = async ({ data: { id, method, args } }) => {
    try {
      if (method === "open") {
        library = Library.open(args[0]);
        await library;
        return postMessage({ id });
      }
      const result = await (await library)[method](...args);
      const buffer = result instanceof Uint8Array ? result.buffer : result.data?.buffer;
      postMessage({ id, result }, buffer ? [buffer] : []);
    } catch (error) {
      postMessage({ id, error: { message: String(error?.message ?? error), status: error?.status } });
    }
  };
}
