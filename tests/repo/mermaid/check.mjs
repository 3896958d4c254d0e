// Parses the Mermaid diagrams of Markdown files: node check.mjs FILE…
// Prints how many there are, and the errors; fails if there is one.
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";

// Mermaid sanitizes labels with a library that needs a document.
const { window } = new JSDOM("");
Object.assign(globalThis, { window, document: window.document });
const { default: mermaid } = await import("mermaid");

let count = 0;
for (const file of process.argv.slice(2)) {
  const text = readFileSync(file, "utf8");
  for (const { 1: diagram, index } of text.matchAll(/^```mermaid\n(.*?)^```/gms)) {
    count += 1;
    try {
      await mermaid.parse(diagram);
    } catch (error) {
      const line = text.slice(0, index).split("\n").length;
      console.error(`${file}:${line}: ${error.message}`);
      process.exitCode = 1;
    }
  }
}
console.log(count);
