import { Option } from 'commander';

export const orderOption = (): Option =>
  new Option('--order <field>', 'sort by this').choices([
    'key',
    'version',
    'create',
    'mod',
    'value',
  ]);
