public import Commands

/// Where an engine's outputs go: the worker's socket, or a simulated network. Called on the engine's thread only, once a
/// batch and never once a packet.
public protocol EngineOutput: AnyObject {
    /// Send the batch's messages and remove those that were taken. What stays is offered again with the next flush. Called when
    /// a good deal waits and at the end of a turn.
    func flush(_ batch: EgressBatch)
    /// Tell Control.
    func emit(_ event: Event)
    /// Another worker's relay ring has something for it to read.
    func wake(_ worker: WorkerIndex)
}
