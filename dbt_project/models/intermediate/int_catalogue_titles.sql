with films as (

    select * from {{ ref('int_films') }}

),

episodes as (

    select * from {{ ref('int_episodes') }}

),

titles as (

    select * from {{ ref('stg_imdb__titles') }}

),

tconsts as (

    select tconst
    from films
    where tconst is not null
    union
    select tconst
    from episodes
    union
    select parent_tconst as tconst
    from episodes
    where parent_tconst is not null

),

final as (

    select titles.*
    from titles
    where titles.tconst in (select tconsts.tconst from tconsts)

)

select * from final
