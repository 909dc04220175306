/** Build the page into the Python package; `--check` compares what is there with a fresh build. */

import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import { readdir, readFile, rm, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const TARGET = join(HERE, '../gixi_bluesky/web/static');
const LIBRARIES = ['@msgpack/msgpack', '@preact/signals', '@preact/signals-core',
  '@uwdata/flechette', 'preact', 'uplot'];
const LARGEST = 1_000_000;

/** @returns {Promise<Map<string, Buffer>>} */
async function built() {
  const files = new Map();
  const result = await build({
    absWorkingDir: HERE,
    entryPoints: { live: 'src/main.jsx', style: 'src/style.css' },
    bundle: true,
    minify: true,
    format: 'esm',
    target: ['es2022'],
    jsx: 'automatic',
    jsxImportSource: 'preact',
    legalComments: 'none',
    outdir: TARGET,
    write: false,
  });
  for (const file of result.outputFiles) {
    files.set(file.path.split('/').pop(), Buffer.from(file.contents));
  }
  files.set('index.html', await readFile(join(HERE, 'src/index.html')));
  files.set('icon.svg', await readFile(join(HERE, 'src/icon.svg')));
  files.set('licences.txt', await licences());
  return files;
}

async function licences() {
  const texts = [];
  for (const name of LIBRARIES) {
    const folder = join(HERE, 'node_modules', name);
    const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
    const file = (await readdir(folder)).find((one) => /^licen[cs]e/i.test(one));
    if (!file) throw new Error(`${name} has no licence file`);
    texts.push(`${name} ${version}\n\n${await readFile(join(folder, file), 'utf8')}`);
  }
  return Buffer.from(texts.join('\n----\n\n'));
}

/** @param {Buffer} content */
const digest = (content) => createHash('sha256').update(content).digest('hex');

const files = await built();
const total = [...files.values()].reduce((sum, content) => sum + content.length, 0);
if (total > LARGEST) throw new Error(`the page has ${total} bytes; at most ${LARGEST}`);
if (process.argv.includes('--check')) {
  const there = await readdir(TARGET);
  const wrong = [...new Set([...files.keys(), ...there])];
  const different = [];
  for (const name of wrong) {
    const content = there.includes(name) ? await readFile(join(TARGET, name)) : Buffer.alloc(0);
    if (digest(content) !== digest(files.get(name) ?? Buffer.alloc(0))) different.push(name);
  }
  if (different.length) {
    console.error(`not as built: ${different.join(', ')}; run \`make page\` and commit`);
    process.exit(1);
  }
} else {
  await rm(TARGET, { recursive: true, force: true });
  await mkdir(TARGET, { recursive: true });
  for (const [name, content] of files) await writeFile(join(TARGET, name), content);
}
console.log(`${files.size} files, ${total} bytes`);
