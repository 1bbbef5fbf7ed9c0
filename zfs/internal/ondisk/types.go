package ondisk

import "fmt"

// ObjectType says what an object holds (dmu_object_type_t, sys/dmu.h).
type ObjectType uint8

// The object types of pools of version 5000.
const (
	TypeNone ObjectType = iota
	TypeObjectDirectory
	TypeObjectArray
	TypePackedNvlist
	TypePackedNvlistSize
	TypeBpobj
	TypeBpobjHeader
	TypeSpaceMapHeader
	TypeSpaceMap
	TypeIntentLog
	TypeDnode
	TypeObjset
	TypeDSLDir
	TypeDSLDirChildMap
	TypeDSLDatasetSnapMap
	TypeDSLProps
	TypeDSLDataset
	TypeZnode
	TypeOldACL
	TypePlainFile
	TypeDirectory
	TypeMasterNode
	TypeUnlinkedSet
	TypeZvol
	TypeZvolProp
	TypePlainOther
	TypeUint64Other
	TypeZAPOther
	TypeErrorLog
	TypeHistory
	TypeHistoryOffsets
	TypePoolProps
	TypeDSLPerms
	TypeACL
	TypeSysACL
	TypeFUID
	TypeFUIDSize
	TypeNextClones
	TypeScanQueue
	TypeUserGroupUsed
	TypeUserGroupQuota
	TypeUserRefs
	TypeDDTZAP
	TypeDDTStats
	TypeSA
	TypeSAMasterNode
	TypeSAAttrRegistration
	TypeSAAttrLayouts
	TypeScanXlate
	TypeDedup
	TypeDeadlist
	TypeDeadlistHeader
	TypeDSLClones
	TypeBpobjSubobj
	typeCount
)

// Types made of flags (DMU_OTN_*): 0x80 marks them, 0x40 is metadata, the low
// bits tell how the content is swapped.
const (
	TypeNewFlag     ObjectType = 0x80
	TypeZAPMetadata ObjectType = 0xC4
)

// dataTypes are the numbered types that are no metadata (dmu_ot, dmu.c).
var dataTypes = map[ObjectType]bool{TypePlainFile: true, TypeZvol: true, TypePlainOther: true, TypeUint64Other: true}

// IsMetadata tells whether blocks of the type have one copy more than data.
func (t ObjectType) IsMetadata() bool {
	if t&TypeNewFlag != 0 {
		return t&0x40 != 0
	}
	return !dataTypes[t]
}

// Valid tells whether a pool of version 5000 may hold the type.
func (t ObjectType) Valid() bool { return t&TypeNewFlag != 0 || t < typeCount }

// HasFill tells whether the fill count of a level 0 block means something else
// than one (DMU_OT_HAS_FILL): dnode and objset blocks count dnodes.
func (t ObjectType) HasFill() bool { return t == TypeDnode || t == TypeObjset }

// Compression is how a block is stored (enum zio_compress).
type Compression uint8

// The compressions that blocks may have.
const (
	CompressInherit Compression = 0
	CompressOn      Compression = 1
	CompressOff     Compression = 2
	CompressLZJB    Compression = 3
	CompressEmpty   Compression = 4
	CompressGzip1   Compression = 5
	CompressGzip9   Compression = 13
	CompressZLE     Compression = 14
	CompressLZ4     Compression = 15
	CompressZSTD    Compression = 16
)

func (c Compression) String() string {
	switch {
	case c >= CompressGzip1 && c <= CompressGzip9:
		return fmt.Sprintf("gzip-%d", c-CompressGzip1+1)
	case int(c) < len(compressionNames) && compressionNames[c] != "":
		return compressionNames[c]
	}
	return fmt.Sprintf("compression %d", uint8(c))
}

var compressionNames = [...]string{0: "inherit", 1: "on", 2: "off", 3: "lzjb", 4: "empty", 14: "zle", 15: "lz4", 16: "zstd"}

// Checksum is how a block is summed (enum zio_checksum).
type Checksum uint8

// The checksums that blocks may have.
const (
	ChecksumInherit    Checksum = 0
	ChecksumOn         Checksum = 1
	ChecksumOff        Checksum = 2
	ChecksumLabel      Checksum = 3
	ChecksumGangHeader Checksum = 4
	ChecksumZilog      Checksum = 5
	ChecksumFletcher2  Checksum = 6
	ChecksumFletcher4  Checksum = 7
	ChecksumSHA256     Checksum = 8
	ChecksumZilog2     Checksum = 9
	ChecksumNoParity   Checksum = 10
	ChecksumSHA512     Checksum = 11
	ChecksumSkein      Checksum = 12
	ChecksumEdonR      Checksum = 13
	ChecksumBlake3     Checksum = 14
)

func (c Checksum) String() string {
	if int(c) < len(checksumNames) {
		return checksumNames[c]
	}
	return fmt.Sprintf("checksum %d", uint8(c))
}

var checksumNames = [...]string{"inherit", "on", "off", "label", "gang_header", "zilog", "fletcher2", "fletcher4",
	"sha256", "zilog2", "noparity", "sha512", "skein", "edonr", "blake3"}

// Sizes and limits (bytes unless said otherwise).
const (
	SectorSize     = 512 // unit of the sizes and offsets in pointers
	LabelSize      = 256 << 10
	LabelStart     = 4 << 20 // two labels and the boot area; DVA offsets start here
	LabelEnd       = 512 << 10
	MaxBlockSize   = 16 << 20
	OldMaxBlock    = 128 << 10
	BlockPtrSize   = 128
	DnodeSize      = 512
	DnodeBlockSize = 16 << 10
	// IndirectShift is the size of indirect blocks as a power of two.
	IndirectShift = 17
	ObjsetSize    = 4096
	// SpaVersion is the version of pools with feature flags.
	SpaVersion = 5000
)
