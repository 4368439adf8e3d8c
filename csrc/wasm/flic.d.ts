/** flic.h's flic_status, by number: what `error.status` may be. */
export const STATUS: readonly string[];

export interface LoadOptions {
  /** The URL of a codec file, or several by name; one named as its model ("jahp") is tried first. */
  weights: string | Record<string, string>;
  /** false decodes in the caller's thread. */
  worker?: boolean;
}

/** Starts the library. Weights are fetched when a stream first needs them, once, and stay in the browser's cache. */
export function load(options: LoadOptions): Promise<Flic>;

export interface Header {
  width: number;
  height: number;
  /** Of the format, 1 to 3. */
  version: number;
  /** "jahp", "mlic++", ...; null if this library does not know it. */
  model: string | null;
  /** 0: a codec of one rate. */
  quality: number;
  /** Of the codec that decodes it, 16 hexadecimal digits. */
  fingerprint: string;
  sections: number;
  framingBytes: number;
  /** 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; `decode` gives RGBA of all. */
  channels: number;
}

export interface CodecInfo {
  name: string;
  family: string;
  fingerprint: string;
  /** Qualities are 1 to this, in steps of 1/16; 0: one rate, quality 0. */
  qualities: number;
  /** A stream decodes from its first 1 to so many parts; 0: whole only. */
  previews: number;
}

/** Errors of the library carry its message and this number. */
export interface FlicError extends Error {
  status: number;
}

export class Flic {
  decode(bytes: ArrayBuffer | Uint8Array, options?: { parts?: number; maxPixels?: number }): Promise<ImageData>;
  header(bytes: ArrayBuffer | Uint8Array): Promise<Header>;
  encode(image: ImageData, quality: number, options?: { codec?: string }): Promise<Uint8Array>;
  info(codec?: string): Promise<CodecInfo>;
  replaceImages(root?: ParentNode): Promise<HTMLImageElement[]>;
  close(): void;
}
