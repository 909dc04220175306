/** A JSON Schema as fields of a form. */

/**
 * @typedef {Record<string, any>} Schema
 * @typedef {'group' | 'number' | 'integer' | 'boolean' | 'choice' | 'text' | 'json'} Kind
 */

/**
 * The schema itself, references followed; of "this or nothing" the part that is something.
 * @param {Schema} schema
 * @param {Schema} root
 * @returns {Schema}
 */
export function resolved(schema, root) {
  let one = schema;
  while (one.$ref) {
    const name = String(one.$ref).split('/').pop() ?? '';
    const { $ref: _, ...beside } = one;
    one = { ...root.$defs?.[name], ...beside };
  }
  const some = one.anyOf?.filter((/** @type {Schema} */ part) => part.type !== 'null');
  if (some?.length === 1) {
    const { anyOf: _, ...beside } = one;
    return resolved({ ...some[0], ...beside, optional: one.anyOf.length > 1 }, root);
  }
  return one;
}

/**
 * How a value is edited. What is no number, word or choice is edited as JSON.
 * @param {Schema} schema resolved
 * @returns {Kind}
 */
export function kindOf(schema) {
  if (schema.properties) return 'group';
  if (schema.enum) return 'choice';
  if (schema.type === 'number' || schema.type === 'integer' || schema.type === 'boolean') {
    return schema.type;
  }
  return schema.type === 'string' ? 'text' : 'json';
}

/**
 * The value that was typed; undefined = the default. Throws for what cannot be read.
 * @param {Kind} kind
 * @param {string} text
 */
export function parsed(kind, text) {
  if (!text.trim()) return undefined;
  if (kind === 'number' || kind === 'integer') {
    const value = Number(text);
    if (!Number.isFinite(value)) throw new Error(`${text} is not a number`);
    return value;
  }
  return kind === 'json' ? JSON.parse(text) : text;
}

/**
 * A tree with one value replaced, or removed where it is undefined; groups left empty go as well.
 * @param {any} tree
 * @param {string[]} path
 * @param {any} value
 * @returns {any}
 */
export function replaced(tree, [first, ...rest], value) {
  const copy = { ...tree };
  const inside = rest.length ? replaced(copy[first] ?? {}, rest, value) : value;
  const empty = rest.length && !Object.keys(inside).length;
  if (inside === undefined || empty) delete copy[first];
  else copy[first] = inside;
  return copy;
}

const SECTIONS = { mask: 'geometry.mask', structures: 'matching', weights: 'detector' };

/**
 * Where in the form a finding of `check` belongs.
 * @param {string} part
 */
export function placeOf(part) {
  return /** @type {Record<string, string>} */ (SECTIONS)[part] ?? part;
}

/**
 * Messages that belong to a key, or to what the form shows as one field.
 * @param {import('./desk.js').Problem[]} problems
 * @param {string} where such as `grid.shape`
 * @param {boolean} inside whether messages on parts of the value are shown here
 */
export function messagesAt(problems, where, inside) {
  return problems
    .filter((one) => one.where === where || (inside && one.where.startsWith(`${where}.`)))
    .map((one) => one.message);
}
