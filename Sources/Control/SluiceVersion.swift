/// What `sluice version` prints.
public enum SluiceVersion {
    public static let text = "0.1.0"
}
