// Plays a GLB in three.js, without drawing it, and writes the vertices of its meshes.
//   node play_three.mjs MODULES GLB OUTPUT TIME…
// OUTPUT gets float32 positions in the scene: for each mesh those at rest, then those at each time.
// Printed is a JSON list of the meshes' names and numbers of vertices.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, file, output, ...times] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(path.join(path.resolve(modules), name)));

// What three.js expects of a browser. Images are not looked at.
globalThis.self = globalThis;
globalThis.ProgressEvent ??= class extends Event {};
globalThis.createImageBitmap = async () => ({ width: 1, height: 1, close() {} });

const three = await load("three/build/three.module.js");
const { GLTFLoader } = await load("three/examples/jsm/loaders/GLTFLoader.js");

const content = fs.readFileSync(file);
const bytes = content.buffer.slice(content.byteOffset, content.byteOffset + content.length);
const gltf = await new GLTFLoader().parseAsync(bytes, "");
const meshes = [];
gltf.scene.traverse((object) => object.isMesh && meshes.push(object));

// The vertices that its triangles use.
const used = meshes.map((mesh) => [...new Set(mesh.geometry.index.array)].sort((a, b) => a - b));

function positions(mesh, vertices) {
  const result = new Float32Array(3 * vertices.length);
  const point = new three.Vector3();
  vertices.forEach((vertex, k) => {
    mesh.getVertexPosition(vertex, point).applyMatrix4(mesh.matrixWorld).toArray(result, 3 * k);
  });
  return result;
}

const rows = meshes.map(() => []);
function record() {
  gltf.scene.updateMatrixWorld(true);
  meshes.forEach((mesh, k) => rows[k].push(positions(mesh, used[k])));
}

record();
const mixer = new three.AnimationMixer(gltf.scene);
const action = mixer.clipAction(gltf.animations[0]);
action.setLoop(three.LoopOnce);
action.clampWhenFinished = true;
action.play();
for (const time of times) {
  mixer.setTime(Number(time));
  record();
}
fs.writeFileSync(output, Buffer.concat(rows.flat().map((row) => Buffer.from(row.buffer))));
console.log(
  JSON.stringify(meshes.map((mesh, k) => ({ name: mesh.name, count: rows[k][0].length / 3 }))),
);
