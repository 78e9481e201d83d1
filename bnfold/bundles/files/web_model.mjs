// The model of this bundle in onnxruntime-web, for pages of your own:
//   import { openModel } from "./model.mjs";
//   const model = await openModel();
//   const { logits } = await model.run({ x: model.tensor("float32", new Float32Array(n), [1, 3, 224, 224]) });
// Nothing is fetched from anywhere but this folder.
import * as ort from "./ort/ort.wasm.min.mjs";

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, float16: globalThis.Float16Array ?? Uint16Array, bool: Uint8Array,
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
};

export const here = (path) => new URL(path, import.meta.url);

export async function fetched(path) {
  const answer = await fetch(here(path));
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
}

export async function readManifest() {
  return JSON.parse(new TextDecoder().decode(await fetched("manifest.json")));
}

// Bytes of the bundle as a typed array; they are little-endian, as in every browser.
export function typed(dtype, buffer, offset, length) {
  return new ARRAYS[dtype](buffer.slice(offset, offset + length));
}

export async function openModel(manifest) {
  manifest ??= await readManifest();
  ort.env.wasm.wasmPaths = here("ort/").href;
  // Threads need SharedArrayBuffer, which browsers give to pages with these headers alone:
  // Cross-Origin-Opener-Policy: same-origin, Cross-Origin-Embedder-Policy: require-corp
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  const begin = performance.now();
  const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
  const data = manifest.settings.external_data;
  if (data.length) options.externalData = data.map((path) => ({ path, data: here(path).href }));
  const session = await ort.InferenceSession.create(await fetched(manifest.model.path), options);
  return {
    openMs: performance.now() - begin,
    threads: ort.env.wasm.numThreads,
    version: ort.env.versions.web,
    tensor: (dtype, values, shape) => new ort.Tensor(dtype, values, shape),
    run: (feeds) => session.run(feeds),
  };
}
