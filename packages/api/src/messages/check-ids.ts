import { Refusal } from '@baton/domain';

const ID = /^[1-9][0-9]{0,18}$/;

/** These calls are not run through the validator: they carry many small items. What would reach SQL is looked at here. */
export function checkIds(ids: readonly string[], field: string): void {
  for (const id of ids)
    if (!ID.test(id))
      throw new Refusal(
        'invalid_argument',
        'INVALID_REQUEST',
        `${field}: ${JSON.stringify(id.slice(0, 40))} is not an id`,
        {
          violations: [{ field, description: 'must be a decimal id' }],
        },
      );
}
