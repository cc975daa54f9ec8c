// Prints what three-vrm-animation finds in a VRM animation.
//   node read_vrma.mjs MODULES VRMA
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, file] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(path.join(path.resolve(modules), name)));

globalThis.self = globalThis;
globalThis.ProgressEvent ??= class extends Event {};

const { GLTFLoader } = await load("three/examples/jsm/loaders/GLTFLoader.js");
const { VRMAnimationLoaderPlugin } = await load(
  "@pixiv/three-vrm-animation/lib/three-vrm-animation.module.js",
);
const loader = new GLTFLoader();
loader.register((parser) => new VRMAnimationLoaderPlugin(parser));
const content = fs.readFileSync(file);
const bytes = content.buffer.slice(content.byteOffset, content.byteOffset + content.length);
const gltf = await loader.parseAsync(bytes, "");
const [animation] = gltf.userData.vrmAnimations;
const bones = [...animation.humanoidTracks.rotation.keys()].join(", ");
const presets = animation.expressionTracks.preset.size;
const gaze = animation.lookAtTrack ? "gaze" : "no gaze";
console.log(`${animation.duration.toFixed(2)} s: ${bones}, ${presets} expressions, ${gaze}`);
