// Prints what the Khronos validator says of glTF files: a line of JSON for each.
//   node validate.cjs MODULES FILE…
const fs = require("fs");
const path = require("path");

const [modules, ...files] = process.argv.slice(2);
const validator = require(path.join(path.resolve(modules), "gltf-validator"));

async function main() {
  for (const file of files) {
    const content = new Uint8Array(fs.readFileSync(file));
    const { issues } = await validator.validateBytes(content, { maxIssues: 0 });
    const messages = issues.messages
      .filter((message) => message.severity < 2)
      .map((message) => `${message.code} ${message.pointer ?? ""}: ${message.message}`);
    console.log(
      JSON.stringify({ errors: issues.numErrors, warnings: issues.numWarnings, messages }),
    );
  }
}

main();
