import { useEffect, useState } from 'preact/hooks';

import { kindOf, messagesAt, parsed, placeOf, resolved } from '../../operate/schema.js';

/**
 * @typedef {import('../../operate/desk.js').Problem} Problem
 * @typedef {import('../../operate/desk.js').Finding} Finding
 * @typedef {object} Editing
 * @property {any} root schema
 * @property {any} tree edited values
 * @property {(path: string[], value: any) => void} change
 * @property {string[]} structures files that may be chosen
 * @property {Problem[]} problems
 * @property {Finding[]} findings
 */

/**
 * A form made from a JSON Schema, with what is wrong beside each field.
 * @param {Editing} props
 */
export function SchemaForm(props) {
  return (
    <form class="schema" onSubmit={(event) => event.preventDefault()} data-testid="config-form">
      {Object.keys(props.root.properties).map((name) => (
        <Field key={name} path={[name]} schema={props.root.properties[name]} editing={props} />
      ))}
    </form>
  );
}

/** @param {{path: string[], schema: any, editing: Editing}} props */
function Field({ path, schema: given, editing }) {
  const schema = resolved(given, editing.root);
  const kind = kindOf(schema);
  const where = path.join('.');
  const messages = messagesAt(editing.problems, where, kind === 'json');
  const findings = editing.findings.filter((one) => placeOf(one.part) === where);
  const notes = <Notes messages={messages} findings={findings} />;
  if (kind === 'group') {
    const wrong = editing.problems.some((one) => one.where.startsWith(`${where}.`));
    return (
      <details open={wrong || path.length > 1 || where === 'detector' || where === 'matching'}>
        <summary>{path.at(-1)}</summary>
        {notes}
        {Object.keys(schema.properties).map((name) => (
          <Field
            key={name}
            path={[...path, name]}
            schema={schema.properties[name]}
            editing={editing}
          />
        ))}
      </details>
    );
  }
  return (
    <div class="field">
      <label for={where} title={schema.description}>
        {path.at(-1)}
      </label>
      <Input id={where} kind={kind} schema={schema} path={path} editing={editing} />
      {notes}
    </div>
  );
}

/**
 * @param {{id: string, kind: import('../../operate/schema.js').Kind, schema: any,
 *   path: string[], editing: Editing}} props
 */
function Input({ id, kind, schema, path, editing }) {
  const value = path.reduce((tree, key) => tree?.[key], editing.tree);
  const [text, setText] = useState(written(kind, value));
  const [wrong, setWrong] = useState('');
  useEffect(() => {
    // What is being typed, such as 1e-, stays as it is.
    if (!wrong && !sameValue(kind, text, value)) setText(written(kind, value));
  }, [value]);
  /** @param {string} typed */
  const type = (typed) => {
    setText(typed);
    try {
      editing.change(path, parsed(kind, typed));
      setWrong('');
    } catch (error) {
      setWrong(/** @type {Error} */ (error).message);
    }
  };
  if (id === 'matching.cif') {
    const chosen = new Set(value ?? []);
    return (
      <div class="structures">
        {editing.structures.map((file) => (
          <label key={file} title={file}>
            <input
              type="checkbox"
              checked={chosen.has(file)}
              onChange={() => {
                if (!chosen.delete(file)) chosen.add(file);
                editing.change(path, [...chosen]);
              }}
            />
            {file.split('/').pop()}
          </label>
        ))}
      </div>
    );
  }
  const fallback = schema.default === undefined ? '' : written('json', schema.default);
  if (kind === 'boolean' || kind === 'choice') {
    const options = kind === 'boolean' ? [true, false] : schema.enum;
    return (
      <select
        id={id}
        value={value === undefined ? '' : String(value)}
        onChange={(event) => {
          const chosen = options.find(
            (/** @type {any} */ one) => String(one) === event.currentTarget.value,
          );
          editing.change(path, chosen);
        }}
      >
        <option value="">default{fallback && `: ${fallback}`}</option>
        {options.map((/** @type {any} */ one) => (
          <option key={String(one)}>{String(one)}</option>
        ))}
      </select>
    );
  }
  const common = {
    id,
    value: text,
    placeholder: fallback,
    'aria-invalid': Boolean(wrong),
    onInput: (/** @type {any} */ event) => type(event.currentTarget.value),
  };
  return (
    <>
      {kind === 'json' ? <textarea rows={2} {...common} /> : <input {...common} />}
      {wrong && <p class="bad-note">{wrong}</p>}
    </>
  );
}

/** @param {{messages: string[], findings: Finding[]}} props */
function Notes({ messages, findings }) {
  return (
    <>
      {messages.map((message) => (
        <p key={message} class="bad-note" data-testid="problem">
          {message}
        </p>
      ))}
      {findings.map((one) => (
        <p key={one.part} class={one.ok ? 'good-note' : 'bad-note'} data-testid="finding">
          {one.part}: {one.detail}
          {one.warnings.map((warning) => (
            <em key={warning}> {warning}</em>
          ))}
        </p>
      ))}
    </>
  );
}

/**
 * @param {string} kind
 * @param {any} value
 */
function written(kind, value) {
  if (value === undefined || value === null) return '';
  return kind === 'json' || typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/**
 * @param {import('../../operate/schema.js').Kind} kind
 * @param {string} text
 * @param {any} value
 */
function sameValue(kind, text, value) {
  try {
    return written('json', parsed(kind, text)) === written('json', value);
  } catch {
    return false;
  }
}
