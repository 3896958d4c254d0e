-- The health of an ArcGisAppCredential for Argo CD, from the same conditions that kstatus reads.
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "The operator has not observed the resource yet." }
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local function is(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end

local function report(health, kind)
  local condition = conditions[kind]
  return { status = health, message = condition.reason .. ": " .. condition.message }
end

-- A user has to change something, even while the last token is still valid.
if is("Stalled") then
  return report("Degraded", "Stalled")
end
if is("Reconciling") then
  return report("Progressing", "Reconciling")
end
if obj.spec.suspend == true then
  return { status = "Suspended", message = "The resource is suspended." }
end
if is("Ready") then
  return report("Healthy", "Ready")
end
return { status = "Progressing", message = "The resource is not ready." }
