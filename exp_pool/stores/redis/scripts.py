"""Lua scripts: what happens in one step inside the server. They know no rule of the pool; Python decides before.

Times are the server's, in microseconds. Numbers travel as decimal text: Lua would write 1.7e+15. Any text may be in
`ARGV`, which is bytes; details of a listed row are kept as MessagePack, which Lua alone reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

# Before each script. Key groups without rows are kept for an hour: their versions go on growing, and who asks again is
# told what was done. A lease that has ended is kept a while, so that clocks that differ between a master and its heir
# take nothing away.
_PRELUDE = """
local GROUP_MS, LEASE_MS = 3600000, 3600000
local function now()
    local t = redis.call('TIME')
    return t[1] * 1000000 + t[2]
end
local function text(number) return string.format('%.0f', number) end
"""

# Announce what is going to be written. KEYS: marks, ids, tombs, counters of the namespace. ARGV, for each key group:
# its name, the intent, how many ids are to be reserved, and these. Gives the time, the cut-off or '', those ids that a
# row of another key group has or has reserved, and those that have a tombstone.
ANNOUNCE = """
local at, taken, deleted, i = text(now()), {}, {}, 1
while ARGV[i] do
    local group, last = ARGV[i], i + 2 + tonumber(ARGV[i + 2])
    redis.call('ZADD', KEYS[1], at, ARGV[i + 1])
    for j = i + 3, last do
        local id = ARGV[j]
        if redis.call('HSETNX', KEYS[2], id, string.rep('0', 16) .. group .. at) == 0
            and string.sub(redis.call('HGET', KEYS[2], id), 17, 48) ~= group then taken[#taken + 1] = id end
        if redis.call('ZSCORE', KEYS[3], id) then deleted[#deleted + 1] = id end
    end
    i = last + 1
end
return {at, redis.call('HGET', KEYS[4], 'cutoff') or '', taken, deleted}
"""

# Change a key group if no other client has. KEYS: group, lease. ARGV: expected version, operation, the latest time, the
# lease's token or '', channel and message or '', how many fields to set, these with their values, fields to delete.
# Gives {outcome, version, rows left}; 'again' says that this very operation was done before, and its reply was lost.
SWAP = """
local at, group = now(), KEYS[1]
local known = redis.call('HMGET', group, 'v', 'o')
local version, done = known[1] or '0', known[2] or ''
if string.find(done, ARGV[2], 1, true) then return {'again', version, redis.call('HLEN', group) - 2} end
if at > tonumber(ARGV[3]) then return {'late'} end
if ARGV[4] ~= '' and redis.call('HGET', KEYS[2], 't') ~= ARGV[4] then return {'stale'} end
if version ~= ARGV[1] then return {'changed'} end
if ARGV[4] ~= '' then redis.call('DEL', KEYS[2]) end
version = text(math.max(at, tonumber(version) + 1))
local last = 7 + 2 * tonumber(ARGV[7])
for i = 8, last, 2 do redis.call('HSET', group, ARGV[i], ARGV[i + 1]) end
for i = last + 1, #ARGV do redis.call('HDEL', group, ARGV[i]) end
redis.call('HSET', group, 'v', version, 'o', string.sub(ARGV[2] .. done, 1, 128))
local left = redis.call('HLEN', group) - 2
if left == 0 then redis.call('PEXPIRE', group, GROUP_MS) else redis.call('PERSIST', group) end
if ARGV[5] ~= '' then redis.pcall('PUBLISH', ARGV[5], ARGV[6]) end
return {'done', version, left}
"""

# Bring a namespace's listing up to date. KEYS: the first `LISTED` of a `Listing`. ARGV: how old (microseconds) an
# intent must be to go; how many key groups; for each its name, the version that the listing must have ('' where every
# row of the group is told), its version, the intent or '', 'd' where deletions leave tombstones, how many rows it has
# ('' if that is not known), how many ids are gone, each with its stamp ('*': whatever it is, '': only reserved); then
# the rows, as `KeyGroup.listed_as` gives them. Gives the groups of which every row must be told.
LIST = """
local intents, ids, groups, rows, current, asked, embed, score, vectors, gone, spaces, tombs, counters, empty =
    unpack(KEYS)
local at, i = now(), 3
local function count(name, step) return redis.call('HINCRBY', counters, name, step) end
local function forget(entry, handle)
    if entry[5] == '' then return end
    local member = entry[6] .. handle
    redis.call('ZADD', vectors, count('position', 1), member)
    redis.call('ZADD', gone, text(at), member)
    if redis.call('HINCRBY', spaces, entry[5], -1) <= 0 then redis.call('HDEL', spaces, entry[5]) end
end
local function unlist(group, id, stamp, tombstone)
    local raw = redis.call('HGET', ids, id)
    if raw and string.sub(raw, 17, 48) == group then
        if string.sub(raw, 1, 16) ~= string.rep('0', 16) then
            local entry, handle = cmsgpack.unpack(string.sub(raw, 49)), string.sub(raw, 1, 48) .. id
            if stamp ~= '*' and stamp ~= entry[1] then return end
            redis.call('ZREM', rows, handle)
            redis.call('ZREM', current, handle)
            redis.call('ZREM', embed, handle)
            redis.call('ZREM', score, handle)
            redis.call('ZREM', asked, entry[4] .. handle)
            count('bytes', 0 - entry[3])
            forget(entry, handle)
        end
        redis.call('HDEL', ids, id)
    end
    if tombstone and stamp ~= '' then redis.call('ZADD', tombs, text(at), id) end
end
local function due(key, when, handle)
    if when == '' then redis.call('ZREM', key, handle) else redis.call('ZADD', key, when, handle) end
end

local accepted, again = {}, {}
for _ = 1, tonumber(ARGV[2]) do
    local group, from, to, intent, kind, left = unpack(ARGV, i, i + 5)
    local listed = redis.call('HGET', groups, group) or '0'
    local number = tonumber(ARGV[i + 6])
    -- A group that the server has dropped, or let go an hour after its last row, has no version.
    local newer = to ~= '0' and tonumber(listed) > tonumber(to)
    if from == '' and newer then
        again[#again + 1] = group
    else
        for j = i + 7, i + 5 + 2 * number, 2 do unlist(group, ARGV[j], ARGV[j + 1], kind == 'd') end
        if from == '' or listed == from then
            accepted[group] = true
            if to == '0' then redis.call('HDEL', groups, group)
            elseif to ~= listed then redis.call('HSET', groups, group, to) end
            if to ~= '0' and left == '0' then redis.call('ZADD', empty, to, group)
            elseif left ~= '' then redis.call('ZREM', empty, group) end
        end
        if accepted[group] or tonumber(listed) >= tonumber(to) then
            local since = intent ~= '' and redis.call('ZSCORE', intents, intent)
            if since and tonumber(since) <= at - tonumber(ARGV[1]) then redis.call('ZREM', intents, intent) end
        else
            again[#again + 1] = group
        end
    end
    i = i + 7 + 2 * number
end
while ARGV[i] do
    local group, id, stamp, created, is_current, size, hash, embedder, short, vector, embed_due, score_due =
        unpack(ARGV, i, i + 11)
    i = i + 12
    if accepted[group] then
        local raw = redis.call('HGET', ids, id)
        local entry, head
        if raw and string.sub(raw, 17, 48) == group and string.sub(raw, 1, 16) ~= string.rep('0', 16) then
            entry, head = cmsgpack.unpack(string.sub(raw, 49)), string.sub(raw, 1, 48)
            if entry[1] ~= stamp then unlist(group, id, '*', false); entry = nil end
        end
        if not entry then
            head = string.format('%016.0f', count('seq', 1)) .. group
            entry = {stamp, '0', 0, hash, '', '', ''}
            redis.call('ZADD', rows, created, head .. id)
            redis.call('ZADD', asked, 0, hash .. head .. id)
            redis.call('ZREM', tombs, id)
        end
        local handle = head .. id
        count('bytes', tonumber(size) - entry[3])
        if is_current == '1' and entry[2] ~= '1' then
            redis.call('ZADD', current, tonumber(string.sub(head, 1, 16)), handle)
        elseif is_current ~= '1' and entry[2] == '1' then
            redis.call('ZREM', current, handle)
        end
        due(embed, embed_due, handle)
        due(score, score_due, handle)
        if entry[5] ~= embedder then
            forget(entry, handle)
            if embedder ~= '' then redis.call('HINCRBY', spaces, embedder, 1) end
        end
        if embedder ~= '' and (entry[5] ~= embedder or entry[7] ~= vector) then
            redis.call('ZADD', vectors, count('position', 1), short .. handle)
            redis.call('ZREM', gone, short .. handle)
        end
        redis.call('HSET', ids, id, head .. cmsgpack.pack(
            {stamp, is_current, tonumber(size), hash, embedder, short, vector}))
    end
end
return again
"""

# The current row if it is fresh, else the lease if it is free. KEYS: group, lease. ARGV: owner, microseconds, digits
# that make tokens of one microsecond differ, the row that is known to be no answer ('' if none is). Gives {row}, or
# {false, token, until}, or {}.
CLAIM = """
local at = now()
local row = redis.call('HMGET', KEYS[1], '=', 'e')
if row[1] and row[1] ~= ARGV[4] and (not row[2] or row[2] == '' or tonumber(row[2]) > at) then return {row[1]} end
local held = redis.call('HMGET', KEYS[2], 'o', 't', 'u')
if held[1] and tonumber(held[3]) > at and held[1] ~= ARGV[1] then return {} end
local since, ends = at, at + tonumber(ARGV[2])
if held[2] then since = math.max(since, tonumber(string.sub(held[2], 1, -4)) + 1) end
local token = text(since) .. ARGV[3]
redis.call('HSET', KEYS[2], 'o', ARGV[1], 't', token, 'u', text(ends))
redis.call('PEXPIRE', KEYS[2], text(math.max(0, tonumber(ARGV[2]) / 1000) + LEASE_MS))
return {false, token, text(ends)}
"""

# Renew a lease. KEYS: it. ARGV: token, microseconds. Gives its new end, or nothing.
RENEW = """
if redis.call('HGET', KEYS[1], 't') ~= ARGV[1] then return false end
local ends = text(now() + tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'u', ends)
redis.call('PEXPIRE', KEYS[1], text(math.max(0, tonumber(ARGV[2]) / 1000) + LEASE_MS))
return ends
"""

# Give a lease back. KEYS: it. ARGV: token.
RELEASE = "if redis.call('HGET', KEYS[1], 't') == ARGV[1] then redis.call('DEL', KEYS[1]) end"

# Write a named state. KEYS: states. ARGV: name, expected revision or '', value. Gives 1 if it was written.
WRITE_STATE = """
local known = redis.call('HGET', KEYS[1], ARGV[1])
local revision = known and string.match(known, '^%d+') or ''
if revision ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', (tonumber(revision) or 0) + 1) .. ':' .. ARGV[3])
return 1
"""

# Append to a log. KEYS: counters, logs, the log. ARGV: name, entries. Gives the position of the last one.
APPEND = """
local last
for i = 2, #ARGV do
    last = redis.call('HINCRBY', KEYS[1], 'log', 1)
    redis.call('XADD', KEYS[3], last .. '-0', 'e', ARGV[i])
end
redis.call('HSET', KEYS[2], ARGV[1], last)
return last
"""

# Set the cut-off, which never goes back. KEYS: counters. ARGV: time.
CUT_OFF = """
local known = redis.call('HGET', KEYS[1], 'cutoff')
if not known or tonumber(known) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'cutoff', ARGV[1]) end
"""

# Forget deletions. KEYS: vectors, gone, tombs, units, empty. ARGV: vectors and tombstones go that are older than this,
# key groups that are empty for longer than that, at most so many of each. Gives 1 if there may be more.
FORGET = """
local limit = tonumber(ARGV[3])
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1], 'LIMIT', 0, limit)
for _, member in ipairs(old) do
    redis.call('ZREM', KEYS[1], member)
    redis.call('ZREM', KEYS[2], member)
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[1])
local stubs = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', '(' .. ARGV[2], 'LIMIT', 0, limit)
for _, group in ipairs(stubs) do
    redis.call('HDEL', KEYS[4], group)
    redis.call('ZREM', KEYS[5], group)
end
return math.max(#old, #stubs) == limit and 1 or 0
"""

# The cache tier (`cache_tier`). KEYS: writers and mark of the namespace; then writers, mark and row of each key.
# A writer begins with these keys, or with the namespace. ARGV: its mark, how long it is waited for at most, how long
# marks are kept. Gives the mark of the namespace. A mark with a + is that of a writer that did not begin alone.
TIER_BEGIN = """
local function begin(writers, mark)
    local alone = redis.call('INCR', writers) == 1
    redis.call('PEXPIRE', writers, ARGV[2])
    redis.call('SET', mark, ARGV[1] .. (alone and '' or '+'), 'PX', ARGV[3])
end
if #KEYS == 2 then begin(KEYS[1], KEYS[2]) end
redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[3])
for i = 3, #KEYS, 3 do
    begin(KEYS[i], KEYS[i + 1])
    redis.call('DEL', KEYS[i + 2])
end
return redis.call('GET', KEYS[2])
"""

# The mark of a namespace, a new one where it had none. KEYS: it. ARGV: the new one, how long it is kept.
TIER_MARK = """
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return redis.call('GET', KEYS[1])
"""

# A writer has written. ARGV: its mark, the namespace's when it began, how long marks are kept, then for each key the
# new row ('': none) and how long that is kept. The row is kept if no other writer wrote meanwhile: of two, it is not
# known whose row is the later one. Where the writer was waited for no longer, or the server has forgotten it (restart,
# failover), readers may have read what was there before: that goes, and so does the right to fill it in.
TIER_END = """
local function leave(writers, mark)
    local left = tonumber(redis.call('GET', writers) or '0')
    local known = redis.call('GET', mark)
    if left > 0 and known then return redis.call('DECR', writers), known == ARGV[1] end
    redis.call('SET', mark, ARGV[1] .. ':', 'PX', ARGV[3])
    return left, false
end
if #KEYS == 2 then leave(KEYS[1], KEYS[2]) end
local whole = redis.call('GET', KEYS[2]) or ''
local quiet = tonumber(redis.call('GET', KEYS[1]) or '0') == 0 and whole == ARGV[2]
for i = 3, #KEYS, 3 do
    local row = ARGV[4 + (i - 3) / 3 * 2]
    local left, mine = leave(KEYS[i], KEYS[i + 1])
    if left == 0 and mine and quiet and row ~= '' then
        redis.call('SET', KEYS[i + 2], whole .. '|' .. row, 'PX', ARGV[5 + (i - 3) / 3 * 2])
    elseif not mine then
        redis.call('DEL', KEYS[i + 2])
    end
end
return 1
"""

# A reader fills a row in. ARGV: the marks of the namespace and of the key when it looked, while no writer wrote (one
# that began since has left another mark), the row, how long it is kept.
TIER_FILL = """
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] or (redis.call('GET', KEYS[4]) or '') ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[5], ARGV[1] .. '|' .. ARGV[3], 'PX', ARGV[4])
return 1
"""

_SCRIPTS = (
    *(ANNOUNCE, SWAP, LIST, CLAIM, RENEW, RELEASE, WRITE_STATE, APPEND, CUT_OFF, FORGET),
    *(TIER_BEGIN, TIER_MARK, TIER_END, TIER_FILL),
)
_NAMES = {script: hashlib.sha1((_PRELUDE + script).encode(), usedforsecurity=False).hexdigest() for script in _SCRIPTS}
TEXTS = {sha: _PRELUDE + script for script, sha in _NAMES.items()}


def run(script: str, keys: Sequence[bytes], *values: object) -> tuple[object, ...]:
    """The command that runs a script; `Server` sends the text when the server does not know it yet.

    Args:
        script: one of this module.
        keys: all in one slot.
        values: the script's ``ARGV``.
    """
    return ("EVALSHA", _NAMES[script], len(keys), *keys, *values)
