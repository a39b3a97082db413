#include "slices/apply/record_judge.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "slices/reading/json_reading.h"
#include "slices/reading/json_scan.h"
#include "slices/reading/payload_scan.h"
#include "slices/reading/where_filter.h"

namespace icepie::slices {
namespace {

using Verdict = RecordJudgement::Verdict;

RecordJudgement Bad(std::string code, std::string column, std::string message) {
  RecordJudgement judgement;
  judgement.verdict = Verdict::kBad;
  judgement.code = std::move(code);
  judgement.column = std::move(column);
  judgement.message = std::move(message);
  return judgement;
}

// `part`, if it is a part of `payload`.
void SetPlace(absl::string_view payload, absl::string_view part, RecordJudgement& judgement) {
  const bool within = part.data() != nullptr && part.data() >= payload.data() &&
                      part.data() + part.size() <= payload.data() + payload.size();
  if (!within) return;
  judgement.offset = static_cast<size_t>(part.data() - payload.data());
  judgement.size = part.size();
}

// The value that the fault is about; of one within a list or struct, the first that looks like it.
absl::string_view FaultyPart(const JsonValue& value, const ReadFault& fault) {
  if (value.kind == JsonKind::kMissing) return {};
  const absl::string_view whole = value.raw();
  if (fault.path.empty() || fault.value.empty()) return whole;
  const size_t at = whole.find(fault.value);
  return at == absl::string_view::npos ? whole : whole.substr(at, fault.value.size());
}

class PayloadJudge {
 public:
  PayloadJudge(const SourceDef& source, const std::vector<std::string>& columns)
      : payload_(source.stream, scanner_), where_(source.where, scanner_) {
    for (const ColumnDef& column : source.columns) {
      const auto wanted = [&](const std::vector<std::string>& names) {
        return std::find(names.begin(), names.end(), column.name) != names.end();
      };
      if (wanted(columns) || wanted(source.latest_by)) readers_.emplace_back(column, scanner_);
    }
  }

  RecordJudgement Of(absl::string_view payload) {
    if (!payload_.Scan(payload)) {
      RecordJudgement judgement = Bad(payload_.code(), "", payload_.error());
      if (const auto offset = payload_.error_offset()) {
        judgement.offset = std::min(*offset, payload.size());
      }
      return judgement;
    }
    const WhereFilter::Verdict wanted = where_.Judge();
    if (wanted == WhereFilter::Verdict::kFiltered) return {};
    if (wanted == WhereFilter::Verdict::kAmbiguous) {
      RecordJudgement judgement =
          Bad("DUPLICATE_KEY", "", "a key occurs twice in one object; send it once");
      SetPlace(payload, where_.ambiguous_value().text, judgement);
      return judgement;
    }
    for (ColumnReader& reader : readers_) {
      if (reader.Read(scanner_, reading_, fault_)) continue;
      RecordJudgement judgement = Bad(fault_.code, reader.column().name, fault_.message);
      SetPlace(payload, FaultyPart(reader.value(scanner_), fault_), judgement);
      return judgement;
    }
    RecordJudgement readable;
    readable.verdict = Verdict::kReadable;
    return readable;
  }

 private:
  JsonScanner scanner_;
  PayloadScan payload_;
  WhereFilter where_;
  std::vector<ColumnReader> readers_;
  Reading reading_;
  ReadFault fault_;
};

}  // namespace

RecordJudgement JudgeRecord(const DomainPlan& plan, const SlicePlan& slice,
                            const std::string& stream, absl::string_view payload) {
  RecordJudgement judgement;
  for (const SourceUse& use : slice.sources) {
    const SourceDef* source = plan.definition.FindSource(use.source);
    if (source == nullptr || source->stream != stream) continue;
    RecordJudgement one = PayloadJudge(*source, use.columns).Of(payload);
    if (one.verdict == Verdict::kBad) return one;
    if (one.verdict == Verdict::kReadable) judgement = std::move(one);
  }
  return judgement;
}

}  // namespace icepie::slices
