// Connected components of an undirected graph that grows edge by edge: union-find over its nodes.
#ifndef ICEPIE_SLICES_PLAN_COMPONENT_SET_H_
#define ICEPIE_SLICES_PLAN_COMPONENT_SET_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace icepie::slices {

// Keeps nodes alive: numbers as they are, texts copied into chunks.
template <typename Node>
class NodeStore;

template <>
class NodeStore<int64_t> {
 public:
  int64_t Keep(int64_t node) { return node; }
  int64_t bytes() const { return 0; }
  // Numbers compare like their keys.
  static uint64_t SortKey(int64_t node) {
    return static_cast<uint64_t>(node) ^ (uint64_t{1} << 63);
  }
};

template <>
class NodeStore<absl::string_view> {
 public:
  absl::string_view Keep(absl::string_view node) {
    if (node.size() > left_) AddChunk(node.size());
    char* copy = at_;
    if (!node.empty()) std::memcpy(copy, node.data(), node.size());
    at_ += node.size();
    left_ -= node.size();
    return {copy, node.size()};
  }
  int64_t bytes() const { return bytes_; }
  // The first eight bytes: texts with smaller keys are smaller.
  static uint64_t SortKey(absl::string_view node) {
    uint64_t key = 0;
    for (size_t i = 0; i < sizeof(key); ++i) {
      key = key << 8 | (i < node.size() ? static_cast<uint8_t>(node[i]) : 0);
    }
    return key;
  }

 private:
  void AddChunk(size_t size_min) {
    constexpr size_t kChunk = 64 * 1024;
    left_ = size_min > kChunk / 4 ? size_min : kChunk;
    chunks_.push_back(std::make_unique<char[]>(left_));
    at_ = chunks_.back().get();
    bytes_ += static_cast<int64_t>(left_);
  }

  std::vector<std::unique_ptr<char[]>> chunks_;
  char* at_ = nullptr;
  size_t left_ = 0;
  int64_t bytes_ = 0;
};

// `Node` is int64_t or absl::string_view (ordered by bytes, as DuckDB orders VARCHAR).
//
// Threads: one at a time. Errors: std::bad_alloc.
template <typename Node>
class ComponentSet {
 public:
  // Joins the components of both nodes, which are added when they are new. Views are copied.
  void AddEdge(Node a, Node b) { Link(IdOf(a), IdOf(b)); }

  // Adds what `other` has; it stays as it is.
  void AddAll(const ComponentSet& other) {
    for (size_t i = 0; i < other.nodes_.size(); ++i) {
      AddEdge(other.nodes_[i], other.nodes_[other.parents_[i]]);
    }
  }

  size_t size() const { return nodes_.size(); }

  // What it takes in memory, within a few percent.
  int64_t bytes() const {
    constexpr size_t kSlot = sizeof(std::pair<const Node, uint32_t>) + 1;
    const size_t own = nodes_.capacity() * sizeof(Node) + parents_.capacity() * sizeof(uint32_t) +
                       ids_.capacity() * kSlot;
    return static_cast<int64_t>(own) + store_.bytes();
  }

  // Calls `each(node, smallest node of its component)` for all nodes in their order.
  template <typename Each>
  void ForEach(const Each& each) {
    std::vector<std::pair<uint64_t, uint32_t>> order;
    order.reserve(nodes_.size());
    for (uint32_t i = 0; i < nodes_.size(); ++i) {
      order.emplace_back(NodeStore<Node>::SortKey(nodes_[i]), i);
    }
    std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : nodes_[a.second] < nodes_[b.second];
    });
    for (const auto& [key, id] : order) each(nodes_[id], nodes_[Root(id)]);
  }

 private:
  uint32_t IdOf(Node node) {
    const auto found = ids_.find(node);
    if (found != ids_.end()) return found->second;
    const auto id = static_cast<uint32_t>(nodes_.size());
    const Node kept = store_.Keep(node);
    nodes_.push_back(kept);
    parents_.push_back(id);
    ids_.emplace(kept, id);
    return id;
  }

  // With path halving.
  uint32_t Root(uint32_t id) {
    while (parents_[id] != id) {
      parents_[id] = parents_[parents_[id]];
      id = parents_[id];
    }
    return id;
  }

  // The smallest node of a component is its root.
  void Link(uint32_t a, uint32_t b) {
    a = Root(a);
    b = Root(b);
    if (a == b) return;
    if (nodes_[b] < nodes_[a]) std::swap(a, b);
    parents_[b] = a;
  }

  NodeStore<Node> store_;
  std::vector<Node> nodes_;
  std::vector<uint32_t> parents_;
  absl::flat_hash_map<Node, uint32_t> ids_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_COMPONENT_SET_H_
