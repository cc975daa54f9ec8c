// Plays a VRM animation on a VRM avatar by three-vrm, and prints what the avatar shows at a time.
//   node play_vrma.mjs MODULES VRM VRMA TIME
// Printed is JSON: the head's rotation in the scene (x y z w), the weights of the expressions, and
// yaw and pitch of the gaze in degrees, pitch downwards.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, avatar, file, time] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(path.join(path.resolve(modules), name)));

// What three.js expects of a browser. Images are not looked at.
globalThis.self = globalThis;
globalThis.ProgressEvent ??= class extends Event {};
globalThis.createImageBitmap = async () => ({ width: 1, height: 1, close() {} });

const three = await load("three/build/three.module.js");
const { GLTFLoader } = await load("three/examples/jsm/loaders/GLTFLoader.js");
const { VRMLoaderPlugin } = await load("@pixiv/three-vrm/lib/three-vrm.module.js");
const { VRMAnimationLoaderPlugin, VRMLookAtQuaternionProxy, createVRMAnimationClip } = await load(
  "@pixiv/three-vrm-animation/lib/three-vrm-animation.module.js",
);

async function read(name, Plugin) {
  const loader = new GLTFLoader();
  loader.register((parser) => new Plugin(parser));
  const content = fs.readFileSync(name);
  const bytes = content.buffer.slice(content.byteOffset, content.byteOffset + content.length);
  return (await loader.parseAsync(bytes, "")).userData;
}

const { vrm } = await read(avatar, VRMLoaderPlugin);
const [animation] = (await read(file, VRMAnimationLoaderPlugin)).vrmAnimations;
if (vrm.lookAt) {
  const proxy = new VRMLookAtQuaternionProxy(vrm.lookAt);
  proxy.name = "lookAtQuaternionProxy";
  vrm.scene.add(proxy);
}
const mixer = new three.AnimationMixer(vrm.scene);
const action = mixer.clipAction(createVRMAnimationClip(animation, vrm));
action.setLoop(three.LoopOnce);
action.clampWhenFinished = true;
action.play();
mixer.setTime(Number(time));
vrm.update(0);
vrm.scene.updateMatrixWorld(true);

const head = new three.Quaternion();
vrm.humanoid.getRawBoneNode("head").getWorldQuaternion(head);
const names = Object.keys(vrm.expressionManager?.expressionMap ?? {});
const weights = names.map((name) => [name, vrm.expressionManager.getValue(name)]);
console.log(
  JSON.stringify({
    head: head.toArray(),
    weights: Object.fromEntries(weights),
    gaze: vrm.lookAt ? [vrm.lookAt.yaw, vrm.lookAt.pitch] : null,
  }),
);
