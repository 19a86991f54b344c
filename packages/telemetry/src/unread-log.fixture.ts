// A process that logs; what it is told on stdin says how often. argv: the log's directory.
import { createInterface } from 'node:readline';
import { createLogger } from './logger.ts';

const log = createLogger({ name: 'unread', logDir: process.argv[2] });
process.on('uncaughtException', (error) => {
  log.error('uncaught exception', { error });
  process.exitCode = 1;
});
createInterface({ input: process.stdin }).on('line', (line) => log.info('told', { line }));
log.info('begun');
