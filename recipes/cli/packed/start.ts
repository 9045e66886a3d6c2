#!/usr/bin/env node
/** Where the packed program starts: before anything else is loaded, how it is to be loaded. */
import { join } from 'node:path';
import { useCodeCache } from './code-cache.ts';

useCodeCache(join(import.meta.dirname, 'chunks'));
void import('../main.ts');
