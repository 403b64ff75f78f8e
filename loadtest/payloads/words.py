"""The words of the built-in texts: common English words in lower case, most of them one token of a BERT's vocabulary.

Data only. As many as a power of two, so that nine bits pick one.
"""

WORDS: tuple[str, ...] = tuple(
    """
    able about above accept account across act action actor add adult after again against age agree air all
    allow alone along already also always among amount animal another answer any appear apple area arm army around
    arrive artist ask audience away baby back bad bag ball band bank bar base bath battle beach bear beat become
    bed before begin behind believe bell below best better between beyond big bird birth bit black blue board body
    bone book border boring both bottle bottom box boy brain branch bread break bridge brief bright bring brother
    brown build building burn bus business busy buy cake call camera camp can car card care carry cast castle cat
    catch cause cell center certain chair chance change chapter character charm cheap check cheese chicken choice
    church circle city class clean clear clever climb clock close cloth cloud club coast coat coffee cold color
    comedy common company complete computer control cook cool copy corner cost could count country couple course
    court cover crime crowd cry culture cup cut dance danger dark daughter day deal dear death decide deep desert
    design detail develop dinner direct director dirty discover dish distance doctor dog door double doubt down
    drama draw dream dress drive dry dull during dust duty each ear early earth east easy eat edge effect effort
    egg eight else empty end enemy energy engine enjoy enough enter entire equal escape even evening event ever
    every exact except exchange exercise expect experience explain eye face fact fail fair faith fall false
    familiar family famous fan farm fashion fast father fear feel feeling few field fight figure fill film final
    find fine finger finish fire fish five flat flight floor flow flower fly follow food foot force foreign forest
    forget form forward found frame free fresh friend from front fruit full fun funny future game garden gate
    gather general gentle get gift girl give glad glass goal gold good grand grass great green ground group grow
    guard guess guest guide half hall hand happen happy hard hat have head health hear heart heat heavy help here
    hero hide hill history hit hold hole holiday home honest hope horror horse hospital host hot hotel hour house
    how human humor hundred hurt husband ice idea imagine important inside instead interest island job join joke
    journey joy jump just keep key kind king kiss kitchen knee know lady lake land language large last late laugh
    law lead leader learn leave left leg lesson letter level library lie life light like line lion lip list little
    live local lonely long look lose lost love low luck lunch machine magic main make man many mark market master
    match matter may meal mean meat meet member memory metal middle might mile milk mind minute miss mistake mix
    modern moment money month moon more morning most mother mountain mouse mouth move movie much must name narrow
    nation nature near neck need never new news next nice night nine noise none north nothing notice novel now
    number object ocean odd off offer office often oil old once only open orange
    """.split()  # noqa: SIM905  # a list of 512 lines would be no easier to read
)
