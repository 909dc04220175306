import js from '@eslint/js';
import globals from 'globals';

export default [
  js.configs.recommended,
  {
    files: ['src/**/*.{js,jsx}'],
    languageOptions: {
      globals: globals.browser,
      parserOptions: { ecmaFeatures: { jsx: true } },
    },
    rules: {
      'no-unused-vars': 'off', // tsc knows what JSX uses
      'eqeqeq': 'error',
      'no-var': 'error',
      'prefer-const': 'error',
      'no-shadow': 'error',
      'no-restricted-properties': [
        'error',
        { property: 'innerHTML', message: 'Metadata is text; render it as text.' },
        { property: 'outerHTML', message: 'Metadata is text; render it as text.' },
        { property: 'insertAdjacentHTML', message: 'Metadata is text; render it as text.' },
      ],
      'no-restricted-syntax': [
        'error',
        {
          selector: 'JSXAttribute[name.name="dangerouslySetInnerHTML"]',
          message: 'Metadata is text; render it as text.',
        },
      ],
      'max-lines': ['error', 400],
    },
  },
  { files: ['*.mjs', '*.js', 'tests/**'], languageOptions: { globals: globals.node } },
];
