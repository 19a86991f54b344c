import { task } from '@baton/client';
import { statistics } from './statistics.ts';

export const statistics_ = task({ id: 'statistics', run: statistics });
export const inThread = task({ id: 'statistics-thread', isolation: 'thread', run: statistics });
export const inProcess = task({ id: 'statistics-process', isolation: 'process', run: statistics });
