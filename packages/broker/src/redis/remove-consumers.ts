import type { Redis } from 'ioredis';

/**
 * Removes a consumer from a group, unless entries of it are pending: they would be lost with it. Redis keeps the consumers of a group for ever,
 * and each start of a member makes new ones.
 */
const removeOne = `
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if #pending == 0 then return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2]) end
return 0`;

/** Removes the consumers of a group, but one, that have nothing pending. Fields are looked up by name: each version of Redis adds some. */
const removeOthers = `
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local name, pending
  for i = 1, #fields, 2 do
    if fields[i] == 'name' then name = fields[i + 1] end
    if fields[i] == 'pending' then pending = fields[i + 1] end
  end
  if pending == 0 and name ~= ARGV[2] then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name) end
end
return 0`;

/** Removes a member that leaves. What it has left pending is taken over by the next owner of the lane, which then removes it. */
export async function removeConsumer(client: Redis, stream: string, group: string, consumer: string): Promise<void> {
  await client.eval(removeOne, 1, stream, group, consumer);
}

/**
 * Removes what earlier owners of a lane left, dead or not: call it as the lane's owner, when their pending entries have been taken over. A
 * member that reads again is a consumer again.
 */
export async function removeIdleConsumers(client: Redis, stream: string, group: string, owner: string): Promise<void> {
  await client.eval(removeOthers, 1, stream, group, owner);
}
