// Drives headless Chromium: node drive.mjs CHROMIUM CERTIFICATE. The browser trusts the key of the certificate.
// Each line of the standard input is a command, one JSON object, and has one line as its answer:
//   {"open": URL}          opens a page
//   {"wait": TEXT}         waits until the status of the page contains the text
//   {"next": TEXT}         waits until it is set again and contains the text
//   {"sent": TEXT}         waits for a response without an error to a request whose URL contains the text
//   {"screenshot": PATH}   writes a picture of the page
//   {"fetch": PATH}        answers with the HTTP status that the page gets for this path
//   {"end": PATH}          writes all that the browser has received, stored and shown, and ends
import { createHash, X509Certificate } from "node:crypto";
import { EventEmitter, on } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [, , executablePath, certificate] = process.argv;
const key = new X509Certificate(readFileSync(certificate)).publicKey.export({ type: "spki", format: "der" });
const profile = mkdtempSync(join(tmpdir(), "browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  viewport: { width: 800, height: 500 },
  args: [
    ...(process.getuid() === 0 ? ["--no-sandbox"] : []),
    `--ignore-certificate-errors-spki-list=${createHash("sha256").update(key).digest("base64")}`,
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const page = context.pages()[0] ?? (await context.newPage());

const received = [];
const pending = new Set();
async function record(response) {
  const entry = { url: response.url(), status: response.status() };
  received.push(entry);
  entry.headers = await response.allHeaders();
  entry.sent = await response.request().allHeaders();
  entry.body = await response.text().catch((error) => `not readable: ${error.message}`);
}
context.on("response", (response) => {
  const recorded = record(response).catch(() => {}).finally(() => pending.delete(recorded));
  pending.add(recorded);
});
const history = [];
const shown = new EventEmitter();
await context.exposeFunction("recordStatus", (text) => {
  history.push(text);
  shown.emit("status", text);
});
await context.addInitScript(() =>
  document.addEventListener("DOMContentLoaded", () => {
    const status = document.getElementById("status");
    new MutationObserver(() => recordStatus(status.textContent)).observe(status, { childList: true });
  }),
);
const messages = [];
page.on("console", (message) => messages.push(message.text()));
page.on("pageerror", (error) => messages.push(String(error)));

const TIMEOUT = 60_000;
async function next(text) {
  const signal = AbortSignal.timeout(TIMEOUT);
  for await (const [status] of on(shown, "status", { signal })) if (status.includes(text)) return status;
}
const answered = (text) => (response) =>
  response.url().includes(text) && response.text().then((body) => response.ok() && !body.includes('"error"'));

const commands = {
  open: (url) => page.goto(url).then((response) => response.status()),
  wait: (text) => (history.at(-1)?.includes(text) ? history.at(-1) : next(text)),
  next,
  sent: (text) => page.waitForResponse(answered(text), { timeout: TIMEOUT }).then(() => true),
  screenshot: (path) => page.screenshot({ path }).then(() => path),
  fetch: (path) => page.evaluate((path) => fetch(path).then((response) => response.status), path),
  async end(path) {
    const stored = await context.storageState();
    const html = await page.content();
    // A request that is in flight has nothing to add.
    await Promise.race([Promise.all(pending), new Promise((resolve) => setTimeout(resolve, 5_000))]);
    writeFileSync(path, JSON.stringify({ received, stored, html, messages, history }));
    await context.close();
    rmSync(profile, { recursive: true, force: true });
    return received.length;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [[command, argument]] = Object.entries(JSON.parse(line));
  try {
    console.log(JSON.stringify({ ok: await commands[command](argument) }));
  } catch (error) {
    console.log(JSON.stringify({ error: [error.message, ...history.slice(-3), ...messages.slice(-5)].join("; ") }));
  }
  if (command === "end") break;
}

// The standard input is still open.
process.exit();
