-- The health of every meterplane.io object, from the conditions that its status holds.
--
--   spec not looked at yet    Progressing
--   paused or only observed   Suspended
--   Stalled, or not accepted  Degraded
--   Ready                     Healthy
--   anything else             Progressing
local function found(kind)
  for _, condition in ipairs(obj.status.conditions) do
    if condition.type == kind then
      return condition
    end
  end
  return {status = "Unknown", reason = "Pending", message = "the operator has not looked yet"}
end

local function health(status, condition)
  return {status = status, message = condition.reason .. ": " .. condition.message}
end

local pending = {status = "Progressing", message = "the operator has not looked yet"}
if obj.status == nil or obj.status.conditions == nil then
  return pending
end
-- DataPlane has no spec to be behind.
if obj.kind ~= "DataPlane" and obj.status.observedGeneration ~= obj.metadata.generation then
  return pending
end
local ready, accepted = found("Ready"), found("Accepted")
if found("Paused").status == "True" then
  return health("Suspended", found("Paused"))
end
if found("Stalled").status == "True" then
  return health("Degraded", found("Stalled"))
end
if found("Reconciling").status == "True" then
  return health("Progressing", found("Reconciling"))
end
if accepted.status == "False" then
  return health("Degraded", accepted)
end
if ready.status == "True" then
  return health("Healthy", ready)
end
return health("Progressing", ready)
