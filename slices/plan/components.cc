#include "slices/plan/components.h"

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "slices/plan/component_set.h"

namespace icepie::slices {
namespace {

// Bytes of all states of a database.
struct Budget {
  explicit Budget(int64_t bytes_max) : max(bytes_max) {}
  std::atomic<int64_t> used{0};
  const int64_t max;
};

// What a state of the aggregate points to.
template <typename Node>
class Graph {
 public:
  explicit Graph(std::shared_ptr<Budget> budget) : budget_(std::move(budget)) {}
  ~Graph() { budget_->used -= counted_; }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  ComponentSet<Node>& nodes() { return nodes_; }

  // Counts what was added; false when that is too much.
  bool Count() {
    const int64_t bytes = nodes_.bytes();
    budget_->used += bytes - counted_;
    counted_ = bytes;
    return budget_->used <= budget_->max;
  }

 private:
  std::shared_ptr<Budget> budget_;
  ComponentSet<Node> nodes_;
  int64_t counted_ = 0;
};

std::shared_ptr<Budget>& BudgetOf(duckdb_function_info info) {
  return *static_cast<std::shared_ptr<Budget>*>(duckdb_aggregate_function_get_extra_info(info));
}

void FailTooLarge(duckdb_function_info info) {
  const std::string message =
      absl::StrCat(kFunctionMemoryError, ": the nodes of components() take more than ",
                   BudgetOf(info)->max >> 20, " MiB; read fewer edges or raise limits.memory");
  duckdb_aggregate_function_set_error(info, message.c_str());
}

// No exception may reach DuckDB's C API.
template <typename Body>
void Guarded(duckdb_function_info info, const Body& body) {
  try {
    body();
  } catch (const std::exception& error) {
    duckdb_aggregate_function_set_error(
        info, absl::StrCat(kFunctionMemoryError, ": components(): ", error.what()).c_str());
  }
}

template <typename Node>
Graph<Node>*& GraphOf(duckdb_aggregate_state state) {
  return *reinterpret_cast<Graph<Node>**>(state);
}

template <typename Node>
Graph<Node>& GraphToFill(duckdb_function_info info, duckdb_aggregate_state state) {
  Graph<Node>*& graph = GraphOf<Node>(state);
  if (graph == nullptr) graph = new Graph<Node>(BudgetOf(info));
  return *graph;
}

idx_t StateSize(duckdb_function_info /*info*/) { return sizeof(void*); }

void InitState(duckdb_function_info /*info*/, duckdb_aggregate_state state) {
  *reinterpret_cast<void**>(state) = nullptr;
}

template <typename Node>
void DestroyStates(duckdb_aggregate_state* states, idx_t count) {
  for (idx_t i = 0; i < count; ++i) {
    delete GraphOf<Node>(states[i]);
    GraphOf<Node>(states[i]) = nullptr;
  }
}

// The nodes of one column of a chunk.
template <typename Node>
class NodeColumn {
 public:
  NodeColumn(duckdb_data_chunk chunk, idx_t column)
      : vector_(duckdb_data_chunk_get_vector(chunk, column)),
        data_(duckdb_vector_get_data(vector_)),
        validity_(duckdb_vector_get_validity(vector_)) {}

  bool IsNull(idx_t row) const {
    return validity_ != nullptr && !duckdb_validity_row_is_valid(validity_, row);
  }
  Node At(idx_t row) const {
    if constexpr (std::is_same_v<Node, int64_t>) {
      return static_cast<const int64_t*>(data_)[row];
    } else {
      auto* text = static_cast<duckdb_string_t*>(data_) + row;
      return {duckdb_string_t_data(text), duckdb_string_t_length(*text)};
    }
  }

 private:
  duckdb_vector vector_;
  void* data_;
  uint64_t* validity_;
};

template <typename Node>
void Update(duckdb_function_info info, duckdb_data_chunk input, duckdb_aggregate_state* states) {
  Guarded(info, [&] {
    const NodeColumn<Node> a(input, 0);
    const NodeColumn<Node> b(input, 1);
    Graph<Node>* last = nullptr;
    bool fits = true;
    const idx_t rows = duckdb_data_chunk_get_size(input);
    for (idx_t row = 0; row < rows && fits; ++row) {
      if (a.IsNull(row) || b.IsNull(row)) continue;
      Graph<Node>& graph = GraphToFill<Node>(info, states[row]);
      graph.nodes().AddEdge(a.At(row), b.At(row));
      if (last != nullptr && last != &graph) fits = last->Count();
      last = &graph;
    }
    if (last != nullptr) fits = last->Count() && fits;
    if (!fits) FailTooLarge(info);
  });
}

// The sources may be combined into other targets too, so they are copied.
template <typename Node>
void Combine(duckdb_function_info info, duckdb_aggregate_state* sources,
             duckdb_aggregate_state* targets, idx_t count) {
  Guarded(info, [&] {
    for (idx_t i = 0; i < count; ++i) {
      Graph<Node>* source = GraphOf<Node>(sources[i]);
      if (source == nullptr) continue;
      Graph<Node>& target = GraphToFill<Node>(info, targets[i]);
      target.nodes().AddAll(source->nodes());
      if (!target.Count()) return FailTooLarge(info);
    }
  });
}

void Write(duckdb_vector vector, idx_t row, int64_t node) {
  static_cast<int64_t*>(duckdb_vector_get_data(vector))[row] = node;
}
void Write(duckdb_vector vector, idx_t row, absl::string_view node) {
  duckdb_vector_assign_string_element_len(vector, row, node.data(), node.size());
}

template <typename Node>
void WriteList(Graph<Node>& graph, duckdb_vector result, idx_t row) {
  const idx_t begin = duckdb_list_vector_get_size(result);
  const idx_t size = graph.nodes().size();
  duckdb_list_vector_reserve(result, begin + size);
  duckdb_list_vector_set_size(result, begin + size);
  duckdb_vector structs = duckdb_list_vector_get_child(result);
  duckdb_vector nodes = duckdb_struct_vector_get_child(structs, 0);
  duckdb_vector clusters = duckdb_struct_vector_get_child(structs, 1);
  idx_t at = begin;
  graph.nodes().ForEach([&](Node node, Node cluster) {
    Write(nodes, at, node);
    Write(clusters, at, cluster);
    ++at;
  });
  static_cast<duckdb_list_entry*>(duckdb_vector_get_data(result))[row] = {begin, size};
}

template <typename Node>
void Finalize(duckdb_function_info info, duckdb_aggregate_state* states, duckdb_vector result,
              idx_t count, idx_t offset) {
  Guarded(info, [&] {
    for (idx_t i = 0; i < count; ++i) {
      Graph<Node>* graph = GraphOf<Node>(states[i]);
      if (graph != nullptr) {
        WriteList(*graph, result, offset + i);
        continue;
      }
      duckdb_vector_ensure_validity_writable(result);
      duckdb_validity_set_row_invalid(duckdb_vector_get_validity(result), offset + i);
    }
  });
}

void DeleteBudget(void* budget) { delete static_cast<std::shared_ptr<Budget>*>(budget); }

template <typename Node>
absl::Status AddOverload(duckdb_aggregate_function_set set, duckdb_type node_type,
                         const std::shared_ptr<Budget>& budget) {
  duckdb_logical_type node = duckdb_create_logical_type(node_type);
  duckdb_logical_type members[] = {node, node};
  const char* names[] = {"node", "cluster"};
  duckdb_logical_type row = duckdb_create_struct_type(members, names, 2);
  duckdb_logical_type list = duckdb_create_list_type(row);
  duckdb_aggregate_function function = duckdb_create_aggregate_function();
  duckdb_aggregate_function_set_name(function, kComponents);
  duckdb_aggregate_function_add_parameter(function, node);
  duckdb_aggregate_function_add_parameter(function, node);
  duckdb_aggregate_function_set_return_type(function, list);
  duckdb_aggregate_function_set_special_handling(function);
  duckdb_aggregate_function_set_extra_info(function, new std::shared_ptr<Budget>(budget),
                                           DeleteBudget);
  duckdb_aggregate_function_set_functions(function, StateSize, InitState, Update<Node>,
                                          Combine<Node>, Finalize<Node>);
  duckdb_aggregate_function_set_destructor(function, DestroyStates<Node>);
  const duckdb_state added = duckdb_add_aggregate_function_to_set(set, function);
  duckdb_destroy_aggregate_function(&function);
  duckdb_destroy_logical_type(&list);
  duckdb_destroy_logical_type(&row);
  duckdb_destroy_logical_type(&node);
  return added == DuckDBSuccess ? absl::OkStatus()
                                : absl::InternalError("DuckDB: components() cannot be added");
}

}  // namespace

absl::Status RegisterComponents(DuckConnection& connection, int64_t bytes_max) {
  const auto budget = std::make_shared<Budget>(bytes_max);
  duckdb_aggregate_function_set set = duckdb_create_aggregate_function_set(kComponents);
  absl::Status status = AddOverload<int64_t>(set, DUCKDB_TYPE_BIGINT, budget);
  if (status.ok()) status = AddOverload<absl::string_view>(set, DUCKDB_TYPE_VARCHAR, budget);
  if (status.ok() &&
      duckdb_register_aggregate_function_set(connection.handle(), set) == DuckDBError) {
    status = absl::InternalError("DuckDB: components() cannot be registered");
  }
  duckdb_destroy_aggregate_function_set(&set);
  return status;
}

}  // namespace icepie::slices
